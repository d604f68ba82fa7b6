"""Backward kernels: by target for queries and edges, by source for keys and values.

Weights are recomputed from the log-sum-exp; nothing of the size E x H is kept between passes.
"""

# mypy: disable-error-code="misc,no-untyped-call,no-untyped-def"
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphformer.ops.cpu import argument_table as at
from graphformer.ops.cpu.argument_table import CAPACITY
from graphformer.ops.cpu.edge_blocks import (
    blank,
    multiply,
    plus,
    softmax_backward,
    softmax_backward_from,
    sum_edges,
    sum_products,
    unrectify,
    weights_from,
    weights_of,
)
from graphformer.ops.cpu.feature_rows import (
    add_gatv2,
    add_rows,
    dots,
    dots_edges,
    fill,
    scaled,
    whole_lines,
    write_dedge,
)
from graphformer.ops.cpu.indirect_calls import list_block, sweep
from graphformer.ops.cpu.logits import logits_of_source, logits_of_target, weigh_and_bias
from graphformer.ops.cpu.simd import as_float, cast, pointer, read_index, shift, size_of, zeros
from graphformer.ops.custom_op import ADDITIVE, DOT, GATV2


def make_by_target(
    kind: int, lanes: int, fixed: int, value_fixed: int, edges: int
) -> Callable[..., Any]:
    """Gradients of queries, target scores and edge values; leaves delta = sum_j p dp.

    Hubs need delta before the rest, and theirs is summed over several items: phase 0 leaves each
    part's delta, phase 1 goes on from the sum. Other rows are done in phase 0.
    """
    features = int(edges and kind == DOT)

    def by_target(item, table, scratch):
        zero = zeros(scratch, lanes)
        heads, kv_heads, repeat = table[at.HEADS], table[at.KV_HEADS], table[at.REPEAT]
        phase = table[at.PHASE]
        width = fixed if fixed > 0 else table[at.WIDTH]
        value_width = value_fixed if value_fixed > 0 else table[at.VALUE_WIDTH]
        edge_width = table[at.EDGE_WIDTH] if features else 0
        scale, slope = as_float(table[at.SCALE]), as_float(table[at.SLOPE])
        q, k, v = (
            pointer(table[at.Q], scratch),
            pointer(table[at.K], scratch),
            pointer(table[at.V], scratch),
        )
        edge = pointer(table[at.EDGE], scratch)
        vector = pointer(table[at.VECTOR], scratch)
        work = shift(pointer(table[at.ITEMS], table), item * 5)
        partial = work[4]
        if phase == 1 and partial < 0:
            return

        nodes = cast(scratch, table)
        slots = shift(nodes, CAPACITY)
        ids = shift(slots, CAPACITY)
        own = cast(shift(ids, CAPACITY), scratch)
        own_u = shift(own, whole_lines(heads * width))
        s = shift(own_u, whole_lines(heads * edge_width))

        dvector = 0
        if kind == GATV2:
            dvector = table[at.DVECTOR] + item * heads * width * size_of(scratch)
            if not (partial >= 0 and phase == 0):
                fill(pointer(dvector, scratch), heads * width, 0.0, zero)

        for row in range(work[0], work[1]):
            begin = max(read_index(table[at.INDPTR], table[at.WIDE], row), work[2])
            end = min(read_index(table[at.INDPTR], table[at.WIDE], row + 1), work[3])
            n = end - begin
            lse = shift(pointer(table[at.LSE], scratch), row * heads)
            delta = shift(pointer(table[at.DELTA], scratch), row * heads)
            dq = shift(pointer(table[at.DQ], scratch), row * heads * width)
            du = shift(pointer(table[at.DU], scratch), row * heads * edge_width)
            if partial >= 0:
                record = pointer(table[at.PARTIAL], scratch)
                if phase == 0:
                    delta = shift(record, partial * heads)
                else:
                    dq = shift(record, partial * heads * (width + edge_width))
                    du = shift(dq, heads * width)
            if partial < 0 or phase == 1:
                fill(dq, heads * width, 0.0, zero)
                fill(du, heads * edge_width, 0.0, zero)
            if n <= 0:
                fill(delta, heads, 0.0, zero)
                continue

            stride = (n + 15) // 16 * 16 + 16
            p, raw, more = s, shift(s, heads * stride), shift(s, 2 * heads * stride)
            dp = shift(s, 3 * heads * stride)
            list_block(table[at.LIST_EDGES], table, begin, n, nodes)
            if kind == DOT:
                scaled(own, shift(q, row * table[at.Q_STRIDE]), heads * width, scale, zero)
                u = shift(pointer(table[at.U], scratch), row * heads * edge_width)
                scaled(own_u, u, heads * edge_width, scale, zero)
            logits_of_target(
                kind, features, edges, table, row, p, raw, more, stride, own, own_u, nodes, ids,
                n, width, edge_width, zero,
            )  # fmt: skip
            if table[at.DWEIGHT] != 0:
                scaled(more, p, heads * stride, 1.0, zero)
            weigh_and_bias(table, p, stride, n, ids)
            weights_of(p, stride, n, heads, lse, zero)

            dout = shift(pointer(table[at.DOUT], scratch), row * table[at.DOUT_STRIDE])
            dots(
                dp, stride, dout, value_width, 0, v, nodes, table[at.V_STRIDE], 0, value_width,
                n, repeat, kv_heads, value_width, zero, table[at.PREFETCH] * kv_heads * value_width,
            )  # fmt: skip
            if features:
                dz = shift(pointer(table[at.DZ], scratch), row * heads * edge_width)
                # raw is free: additive scores have no edge features
                dots(
                    raw, stride, dz, edge_width, 0, edge, ids, edge_width, 0, 0,
                    n, repeat, kv_heads, edge_width, zero, 0,
                )  # fmt: skip
                plus(dp, raw, stride, n, heads, zero)
            if table[at.DWEIGHTS] != 0:
                sweep(table[at.ADD_EDGES], table, dp, stride, n, ids, table[at.DWEIGHTS])
            if table[at.DROP] != 0:
                sweep(table[at.DROP], table, dp, stride, n, slots, 0)
            blank(dp, stride, n, heads, 0.0)
            if phase == 0:
                sum_products(delta, p, dp, stride, n, heads, zero)
                if partial >= 0:
                    continue
            c = dp
            softmax_backward(c, p, delta, stride, n, heads, zero)

            if table[at.DBIAS] != 0:
                sweep(table[at.WRITE_EDGES], table, c, stride, n, ids, table[at.DBIAS])
            if table[at.DWEIGHT] != 0:
                multiply(more, stride, n, heads, c, zero)
                sweep(table[at.WRITE_EDGES], table, more, stride, n, ids, table[at.DWEIGHT])
            if table[at.MULTIPLY] != 0:
                sweep(table[at.MULTIPLY], table, c, stride, n, ids, 0)
            if kind == DOT:
                add_rows(
                    dq, width, 0, c, stride, k, nodes, table[at.K_STRIDE], 0, width,
                    n, repeat, kv_heads, width, zero,
                )  # fmt: skip
                scaled(dq, dq, heads * width, scale, zero)
                if features:
                    add_rows(
                        du, edge_width, 0, c, stride, edge, ids, edge_width, 0, 0,
                        n, repeat, kv_heads, edge_width, zero,
                    )  # fmt: skip
                    scaled(du, du, heads * edge_width, scale, zero)
                    if table[at.DEDGE] != 0:
                        if table[at.DROP] != 0:
                            sweep(table[at.DROP], table, p, stride, n, slots, 0)
                        dedge = pointer(table[at.DEDGE], scratch)
                        write_dedge(dedge, ids, c, own_u, p, dz, stride, n, heads, edge_width, zero)
            elif kind == ADDITIVE:
                unrectify(c, raw, stride, n, heads, slope, zero)
                if table[at.DEDGE] != 0:
                    sweep(table[at.WRITE_EDGES], table, c, stride, n, ids, table[at.DEDGE])
                sum_edges(dq, c, stride, n, heads)
            elif kind == GATV2:
                add_gatv2(
                    dq, width, 0, dvector, c, stride, shift(q, row * table[at.Q_STRIDE]), width, 0,
                    k, nodes, table[at.K_STRIDE], 0, width, n, repeat, kv_heads, width,
                    vector, slope, edges, edge, table[at.DEDGE], ids, zero,
                )  # fmt: skip

    return by_target


def make_by_source(
    kind: int, lanes: int, fixed: int, value_fixed: int, edges: int
) -> Callable[..., Any]:
    """Gradients of keys (or source scores) and values; neighbours are the targets here."""
    features = int(edges and kind == DOT)

    def by_source(item, table, scratch):
        zero = zeros(scratch, lanes)
        heads, kv_heads, repeat = table[at.HEADS], table[at.KV_HEADS], table[at.REPEAT]
        block = table[at.BLOCK]
        width = fixed if fixed > 0 else table[at.WIDTH]
        value_width = value_fixed if value_fixed > 0 else table[at.VALUE_WIDTH]
        edge_width = table[at.EDGE_WIDTH] if features else 0
        scale, slope = as_float(table[at.SCALE]), as_float(table[at.SLOPE])
        q, k, v = (
            pointer(table[at.Q], scratch),
            pointer(table[at.K], scratch),
            pointer(table[at.V], scratch),
        )
        edge, dz = pointer(table[at.EDGE], scratch), pointer(table[at.DZ], scratch)
        lse, delta = pointer(table[at.LSE], scratch), pointer(table[at.DELTA], scratch)
        dout, vector = pointer(table[at.DOUT], scratch), pointer(table[at.VECTOR], scratch)
        nodes = cast(scratch, table)
        slots = shift(nodes, CAPACITY)
        ids = shift(slots, CAPACITY)
        p = cast(shift(ids, CAPACITY), scratch)
        dp = shift(p, heads * block)
        raw = shift(dp, heads * block)
        own = shift(raw, heads * block)

        work = shift(pointer(table[at.ITEMS], table), item * 5)
        partial = work[4]
        for row in range(work[0], work[1]):
            begin = max(read_index(table[at.INDPTR], table[at.WIDE], row), work[2])
            end = min(read_index(table[at.INDPTR], table[at.WIDE], row + 1), work[3])
            dk = shift(pointer(table[at.DK], scratch), row * kv_heads * width)
            dv = shift(pointer(table[at.DV], scratch), row * kv_heads * value_width)
            if partial >= 0:
                record = pointer(table[at.PARTIAL], scratch)
                dk = shift(record, partial * kv_heads * (width + value_width))
                dv = shift(dk, kv_heads * width)
            fill(dk, kv_heads * width, 0.0, zero)
            fill(dv, kv_heads * value_width, 0.0, zero)
            mine, values = shift(k, row * table[at.K_STRIDE]), shift(v, row * table[at.V_STRIDE])
            if kind == DOT and end > begin:
                scaled(own, mine, kv_heads * width, scale, zero)
            for start in range(begin, end, block):
                n = min(block, end - start)
                list_block(table[at.LIST_EDGES], table, start, n, nodes)
                logits_of_source(
                    kind, features, edges, table, row, p, raw, block, own, nodes, ids,
                    n, width, edge_width, zero,
                )  # fmt: skip
                weigh_and_bias(table, p, block, n, ids)
                weights_from(p, block, n, heads, lse, nodes, zero)
                dots(
                    dp, block, values, 0, value_width, dout, nodes, table[at.DOUT_STRIDE],
                    value_width, 0, n, repeat, kv_heads, value_width, zero,
                    table[at.PREFETCH] * heads * value_width,
                )  # fmt: skip
                if features:
                    dots_edges(dp, block, dz, nodes, edge, ids, n, heads, edge_width, 1.0, zero)
                if table[at.DWEIGHTS] != 0:
                    sweep(table[at.ADD_EDGES], table, dp, block, n, ids, table[at.DWEIGHTS])
                if table[at.DROP] != 0:
                    sweep(table[at.DROP], table, dp, block, n, slots, 0)
                blank(dp, block, n, heads, 0.0)
                c = dp
                softmax_backward_from(c, p, delta, nodes, block, n, heads)
                if table[at.DROP] != 0:
                    sweep(table[at.DROP], table, p, block, n, slots, 0)
                if table[at.MULTIPLY] != 0:
                    sweep(table[at.MULTIPLY], table, c, block, n, ids, 0)
                add_rows(
                    dv, 0, value_width, p, block, dout, nodes, table[at.DOUT_STRIDE],
                    value_width, 0, n, repeat, kv_heads, value_width, zero,
                )  # fmt: skip
                if kind == DOT:
                    add_rows(
                        dk, 0, width, c, block, q, nodes, table[at.Q_STRIDE], width, 0,
                        n, repeat, kv_heads, width, zero,
                    )  # fmt: skip
                elif kind == ADDITIVE:
                    unrectify(c, raw, block, n, heads, slope, zero)
                    sum_edges(dk, c, block, n, heads)
                elif kind == GATV2:
                    add_gatv2(
                        dk, 0, width, 0, c, block, mine, 0, width,
                        q, nodes, table[at.Q_STRIDE], width, 0, n, repeat, kv_heads, width,
                        vector, slope, edges, edge, 0, ids, zero,
                    )  # fmt: skip
            if kind == DOT:
                scaled(dk, dk, kv_heads * width, scale, zero)

    return by_source


def make_sum_join(lanes: int) -> Callable[..., Any]:
    """Sum a hub's parts, in order, into up to two results (see `by_source` for their layout)."""

    def sum_join(item, table, scratch):
        zero = zeros(scratch, lanes)
        width, other_width = table[at.WIDTH], table[at.VALUE_WIDTH]
        hub = shift(pointer(table[at.HUBS], table), item * 3)
        row, size = hub[0], width + other_width
        acc = shift(pointer(table[at.PARTIAL], scratch), hub[1] * size)
        for part in range(1, hub[2] - hub[1]):
            more = shift(acc, part * size)
            for i in range(size):
                acc[i] += more[i]
        scaled(shift(pointer(table[at.OUT], scratch), row * width), acc, width, 1.0, zero)
        others = shift(pointer(table[at.Z], scratch), row * other_width)
        scaled(others, shift(acc, width), other_width, 1.0, zero)

    return sum_join
