"""Backward kernels: by target for queries and edges, by source for keys and values.

Weights are recomputed from the log-sum-exp; nothing of the size E x H is kept between passes.
"""

# mypy: disable-error-code="misc,no-untyped-call,no-untyped-def"
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphformer.ops.cpu.pieces import (
    add_gatv2,
    add_rows,
    blank,
    dots,
    dots_edges,
    fill,
    multiply,
    plus,
    rectify,
    scaled,
    scores_additive,
    scores_gatv2,
    softmax_backward,
    softmax_backward_from,
    sum_edges,
    sum_products,
    unrectify,
    weights_from,
    weights_of,
    whole_lines,
    write_dedge,
)
from graphformer.ops.cpu.simd import (
    as_float,
    cast,
    list_block,
    pointer,
    read_index,
    shift,
    size_of,
    sweep,
    zeros,
)
from graphformer.ops.cpu.table import (
    ADD_BIAS,
    ADD_EDGES,
    ADDITIVE,
    BLOCK,
    CAPACITY,
    DBIAS,
    DEDGE,
    DELTA,
    DK,
    DOT,
    DOUT,
    DOUT_STRIDE,
    DQ,
    DROP,
    DU,
    DV,
    DVECTOR,
    DWEIGHT,
    DWEIGHTS,
    DZ,
    EDGE,
    EDGE_WIDTH,
    GATV2,
    HEADS,
    HUBS,
    INDPTR,
    ITEMS,
    K_STRIDE,
    KV_HEADS,
    LIST_EDGES,
    LSE,
    MULTIPLY,
    OUT,
    PARTIAL,
    PHASE,
    PREFETCH,
    Q_STRIDE,
    REPEAT,
    SCALE,
    SLOPE,
    V_STRIDE,
    VALUE_WIDTH,
    VECTOR,
    WIDE,
    WIDTH,
    WRITE_EDGES,
    K,
    Q,
    U,
    V,
    Z,
)


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
        heads, kv_heads, repeat = table[HEADS], table[KV_HEADS], table[REPEAT]
        phase = table[PHASE]
        width = fixed if fixed > 0 else table[WIDTH]
        value_width = value_fixed if value_fixed > 0 else table[VALUE_WIDTH]
        edge_width = table[EDGE_WIDTH] if features else 0
        scale, slope = as_float(table[SCALE]), as_float(table[SLOPE])
        q, k, v = (
            pointer(table[Q], scratch),
            pointer(table[K], scratch),
            pointer(table[V], scratch),
        )
        edge = pointer(table[EDGE], scratch)
        vector = pointer(table[VECTOR], scratch)
        work = shift(pointer(table[ITEMS], table), item * 5)
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
            dvector = table[DVECTOR] + item * heads * width * size_of(scratch)
            if not (partial >= 0 and phase == 0):
                fill(pointer(dvector, scratch), heads * width, 0.0, zero)

        for row in range(work[0], work[1]):
            begin = max(read_index(table[INDPTR], table[WIDE], row), work[2])
            end = min(read_index(table[INDPTR], table[WIDE], row + 1), work[3])
            n = end - begin
            lse = shift(pointer(table[LSE], scratch), row * heads)
            delta = shift(pointer(table[DELTA], scratch), row * heads)
            dq = shift(pointer(table[DQ], scratch), row * heads * width)
            du = shift(pointer(table[DU], scratch), row * heads * edge_width)
            if partial >= 0:
                record = pointer(table[PARTIAL], scratch)
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
            list_block(table[LIST_EDGES], table, begin, n, nodes)
            if kind == DOT:
                scaled(own, shift(q, row * table[Q_STRIDE]), heads * width, scale, zero)
                dots(
                    p, stride, own, width, 0, k, nodes, table[K_STRIDE], 0, width,
                    n, repeat, kv_heads, width, zero, table[PREFETCH] * kv_heads * width,
                )  # fmt: skip
                if features:
                    u = shift(pointer(table[U], scratch), row * heads * edge_width)
                    scaled(own_u, u, heads * edge_width, scale, zero)
                    dots(
                        more, stride, own_u, edge_width, 0, edge, ids, edge_width, 0, 0,
                        n, repeat, kv_heads, edge_width, zero, 0,
                    )  # fmt: skip
                    plus(p, more, stride, n, heads, zero)
            elif kind == ADDITIVE:
                scores_additive(raw, stride, shift(q, row * heads), k, nodes, n, heads)
                if table[EDGE] != 0:
                    sweep(table[ADD_EDGES], table, raw, stride, n, ids, table[EDGE])
                scaled(p, raw, heads * stride, 1.0, zero)
                rectify(p, stride, n, heads, slope, zero)
            elif kind == GATV2:
                scores_gatv2(
                    p, stride, shift(q, row * table[Q_STRIDE]), width, 0,
                    k, nodes, table[K_STRIDE], 0, width, n, repeat, kv_heads, width,
                    vector, slope, edges, edge, ids, zero,
                )  # fmt: skip
            if table[DWEIGHT] != 0:
                scaled(more, p, heads * stride, 1.0, zero)
            if table[MULTIPLY] != 0:
                sweep(table[MULTIPLY], table, p, stride, n, ids, 0)
            if table[ADD_BIAS] != 0:
                sweep(table[ADD_BIAS], table, p, stride, n, ids, 0)
            weights_of(p, stride, n, heads, lse, zero)

            dout = shift(pointer(table[DOUT], scratch), row * table[DOUT_STRIDE])
            dots(
                dp, stride, dout, value_width, 0, v, nodes, table[V_STRIDE], 0, value_width,
                n, repeat, kv_heads, value_width, zero, table[PREFETCH] * kv_heads * value_width,
            )  # fmt: skip
            if features:
                dz = shift(pointer(table[DZ], scratch), row * heads * edge_width)
                # raw is free: additive scores have no edge features
                dots(
                    raw, stride, dz, edge_width, 0, edge, ids, edge_width, 0, 0,
                    n, repeat, kv_heads, edge_width, zero, 0,
                )  # fmt: skip
                plus(dp, raw, stride, n, heads, zero)
            if table[DWEIGHTS] != 0:
                sweep(table[ADD_EDGES], table, dp, stride, n, ids, table[DWEIGHTS])
            if table[DROP] != 0:
                sweep(table[DROP], table, dp, stride, n, slots, 0)
            blank(dp, stride, n, heads, 0.0)
            if phase == 0:
                sum_products(delta, p, dp, stride, n, heads, zero)
                if partial >= 0:
                    continue
            c = dp
            softmax_backward(c, p, delta, stride, n, heads, zero)

            if table[DBIAS] != 0:
                sweep(table[WRITE_EDGES], table, c, stride, n, ids, table[DBIAS])
            if table[DWEIGHT] != 0:
                multiply(more, stride, n, heads, c, zero)
                sweep(table[WRITE_EDGES], table, more, stride, n, ids, table[DWEIGHT])
            if table[MULTIPLY] != 0:
                sweep(table[MULTIPLY], table, c, stride, n, ids, 0)
            if kind == DOT:
                add_rows(
                    dq, width, 0, c, stride, k, nodes, table[K_STRIDE], 0, width,
                    n, repeat, kv_heads, width, zero,
                )  # fmt: skip
                scaled(dq, dq, heads * width, scale, zero)
                if features:
                    add_rows(
                        du, edge_width, 0, c, stride, edge, ids, edge_width, 0, 0,
                        n, repeat, kv_heads, edge_width, zero,
                    )  # fmt: skip
                    scaled(du, du, heads * edge_width, scale, zero)
                    if table[DEDGE] != 0:
                        if table[DROP] != 0:
                            sweep(table[DROP], table, p, stride, n, slots, 0)
                        dedge = pointer(table[DEDGE], scratch)
                        write_dedge(dedge, ids, c, own_u, p, dz, stride, n, heads, edge_width, zero)
            elif kind == ADDITIVE:
                unrectify(c, raw, stride, n, heads, slope, zero)
                if table[DEDGE] != 0:
                    sweep(table[WRITE_EDGES], table, c, stride, n, ids, table[DEDGE])
                sum_edges(dq, c, stride, n, heads)
            elif kind == GATV2:
                add_gatv2(
                    dq, width, 0, dvector, c, stride, shift(q, row * table[Q_STRIDE]), width, 0,
                    k, nodes, table[K_STRIDE], 0, width, n, repeat, kv_heads, width,
                    vector, slope, edges, edge, table[DEDGE], ids, zero,
                )  # fmt: skip

    return by_target


def make_by_source(
    kind: int, lanes: int, fixed: int, value_fixed: int, edges: int
) -> Callable[..., Any]:
    """Gradients of keys (or source scores) and values; neighbours are the targets here."""
    features = int(edges and kind == DOT)

    def by_source(item, table, scratch):
        zero = zeros(scratch, lanes)
        heads, kv_heads, repeat = table[HEADS], table[KV_HEADS], table[REPEAT]
        block = table[BLOCK]
        width = fixed if fixed > 0 else table[WIDTH]
        value_width = value_fixed if value_fixed > 0 else table[VALUE_WIDTH]
        edge_width = table[EDGE_WIDTH] if features else 0
        scale, slope = as_float(table[SCALE]), as_float(table[SLOPE])
        q, k, v = (
            pointer(table[Q], scratch),
            pointer(table[K], scratch),
            pointer(table[V], scratch),
        )
        edge, dz = pointer(table[EDGE], scratch), pointer(table[DZ], scratch)
        lse, delta = pointer(table[LSE], scratch), pointer(table[DELTA], scratch)
        dout, vector = pointer(table[DOUT], scratch), pointer(table[VECTOR], scratch)
        nodes = cast(scratch, table)
        slots = shift(nodes, CAPACITY)
        ids = shift(slots, CAPACITY)
        p = cast(shift(ids, CAPACITY), scratch)
        dp = shift(p, heads * block)
        raw = shift(dp, heads * block)
        own = shift(raw, heads * block)

        work = shift(pointer(table[ITEMS], table), item * 5)
        partial = work[4]
        for row in range(work[0], work[1]):
            begin = max(read_index(table[INDPTR], table[WIDE], row), work[2])
            end = min(read_index(table[INDPTR], table[WIDE], row + 1), work[3])
            dk = shift(pointer(table[DK], scratch), row * kv_heads * width)
            dv = shift(pointer(table[DV], scratch), row * kv_heads * value_width)
            if partial >= 0:
                record = pointer(table[PARTIAL], scratch)
                dk = shift(record, partial * kv_heads * (width + value_width))
                dv = shift(dk, kv_heads * width)
            fill(dk, kv_heads * width, 0.0, zero)
            fill(dv, kv_heads * value_width, 0.0, zero)
            mine, values = shift(k, row * table[K_STRIDE]), shift(v, row * table[V_STRIDE])
            if kind == DOT and end > begin:
                scaled(own, mine, kv_heads * width, scale, zero)
            for start in range(begin, end, block):
                n = min(block, end - start)
                list_block(table[LIST_EDGES], table, start, n, nodes)
                if kind == DOT:
                    dots(
                        p, block, own, 0, width, q, nodes, table[Q_STRIDE], width, 0,
                        n, repeat, kv_heads, width, zero, table[PREFETCH] * heads * width,
                    )  # fmt: skip
                    if features:
                        u = pointer(table[U], scratch)
                        dots_edges(p, block, u, nodes, edge, ids, n, heads, edge_width, scale, zero)
                elif kind == ADDITIVE:
                    scores_additive(raw, block, shift(k, row * heads), q, nodes, n, heads)
                    if table[EDGE] != 0:
                        sweep(table[ADD_EDGES], table, raw, block, n, ids, table[EDGE])
                    scaled(p, raw, heads * block, 1.0, zero)
                    rectify(p, block, n, heads, slope, zero)
                elif kind == GATV2:
                    scores_gatv2(
                        p, block, mine, 0, width, q, nodes, table[Q_STRIDE], width, 0,
                        n, repeat, kv_heads, width, vector, slope, edges, edge, ids, zero,
                    )  # fmt: skip
                if table[MULTIPLY] != 0:
                    sweep(table[MULTIPLY], table, p, block, n, ids, 0)
                if table[ADD_BIAS] != 0:
                    sweep(table[ADD_BIAS], table, p, block, n, ids, 0)
                weights_from(p, block, n, heads, lse, nodes, zero)
                dots(
                    dp, block, values, 0, value_width, dout, nodes, table[DOUT_STRIDE],
                    value_width, 0, n, repeat, kv_heads, value_width, zero,
                    table[PREFETCH] * heads * value_width,
                )  # fmt: skip
                if features:
                    dots_edges(dp, block, dz, nodes, edge, ids, n, heads, edge_width, 1.0, zero)
                if table[DWEIGHTS] != 0:
                    sweep(table[ADD_EDGES], table, dp, block, n, ids, table[DWEIGHTS])
                if table[DROP] != 0:
                    sweep(table[DROP], table, dp, block, n, slots, 0)
                blank(dp, block, n, heads, 0.0)
                c = dp
                softmax_backward_from(c, p, delta, nodes, block, n, heads)
                if table[DROP] != 0:
                    sweep(table[DROP], table, p, block, n, slots, 0)
                if table[MULTIPLY] != 0:
                    sweep(table[MULTIPLY], table, c, block, n, ids, 0)
                add_rows(
                    dv, 0, value_width, p, block, dout, nodes, table[DOUT_STRIDE], value_width, 0,
                    n, repeat, kv_heads, value_width, zero,
                )  # fmt: skip
                if kind == DOT:
                    add_rows(
                        dk, 0, width, c, block, q, nodes, table[Q_STRIDE], width, 0,
                        n, repeat, kv_heads, width, zero,
                    )  # fmt: skip
                elif kind == ADDITIVE:
                    unrectify(c, raw, block, n, heads, slope, zero)
                    sum_edges(dk, c, block, n, heads)
                elif kind == GATV2:
                    add_gatv2(
                        dk, 0, width, 0, c, block, mine, 0, width,
                        q, nodes, table[Q_STRIDE], width, 0, n, repeat, kv_heads, width,
                        vector, slope, edges, edge, 0, ids, zero,
                    )  # fmt: skip
            if kind == DOT:
                scaled(dk, dk, kv_heads * width, scale, zero)

    return by_source


def make_sum_join(lanes: int) -> Callable[..., Any]:
    """Sum a hub's parts, in order, into up to two results (see `by_source` for their layout)."""

    def sum_join(item, table, scratch):
        zero = zeros(scratch, lanes)
        width, other_width = table[WIDTH], table[VALUE_WIDTH]
        hub = shift(pointer(table[HUBS], table), item * 3)
        row, size = hub[0], width + other_width
        acc = shift(pointer(table[PARTIAL], scratch), hub[1] * size)
        for part in range(1, hub[2] - hub[1]):
            more = shift(acc, part * size)
            for i in range(size):
                acc[i] += more[i]
        scaled(shift(pointer(table[OUT], scratch), row * width), acc, width, 1.0, zero)
        others = shift(pointer(table[Z], scratch), row * other_width)
        scaled(others, shift(acc, width), other_width, 1.0, zero)

    return sum_join
