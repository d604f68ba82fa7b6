"""Forward kernels: by target, softmax on the row, scores and values in one pass."""

# mypy: disable-error-code="misc,no-untyped-call,no-untyped-def"
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from graphformer.ops.cpu import argument_table as at
from graphformer.ops.cpu.argument_table import CAPACITY
from graphformer.ops.cpu.edge_blocks import finish, online_softmax, weights_of
from graphformer.ops.cpu.feature_rows import add_rows, fill, scaled, whole_lines
from graphformer.ops.cpu.indirect_calls import list_block, sweep
from graphformer.ops.cpu.logits import logits_of_target, weigh_and_bias
from graphformer.ops.cpu.simd import as_float, cast, pointer, read_index, shift, zeros
from graphformer.ops.custom_op import DOT


def make_forward(
    kind: int, lanes: int, fixed: int, value_fixed: int, edges: int
) -> Callable[..., Any]:
    """The pass over work item `item`; widths that are not 0 are compiled in.

    `edges` says whether they carry features (dot products) or keys (GATv2).
    """
    features = int(edges and kind == DOT)

    def forward(item, table, scratch):
        zero = zeros(scratch, lanes)
        heads, kv_heads, repeat = table[at.HEADS], table[at.KV_HEADS], table[at.REPEAT]
        block = table[at.BLOCK]
        width = fixed if fixed > 0 else table[at.WIDTH]
        value_width = value_fixed if value_fixed > 0 else table[at.VALUE_WIDTH]
        edge_width = table[at.EDGE_WIDTH] if features else 0
        scale = as_float(table[at.SCALE])
        q, v = pointer(table[at.Q], scratch), pointer(table[at.V], scratch)
        v_step = table[at.V_STRIDE]
        nodes = cast(scratch, table)
        slots = shift(nodes, CAPACITY)
        ids = shift(slots, CAPACITY)
        s = cast(shift(ids, CAPACITY), scratch)
        more = shift(s, heads * block)
        own = shift(more, heads * block)
        own_u = shift(own, whole_lines(heads * width))
        acc = shift(own_u, whole_lines(heads * edge_width))
        extra = shift(acc, heads * value_width)
        largest = shift(extra, heads * edge_width)
        summed = shift(largest, heads)

        work = shift(pointer(table[at.ITEMS], table), item * 5)
        partial = work[4]
        for row in range(work[0], work[1]):
            begin = max(read_index(table[at.INDPTR], table[at.WIDE], row), work[2])
            end = min(read_index(table[at.INDPTR], table[at.WIDE], row + 1), work[3])
            fill(largest, heads, -math.inf, zero)
            fill(summed, heads, 0.0, zero)
            fill(acc, heads * value_width, 0.0, zero)
            fill(extra, heads * edge_width, 0.0, zero)
            if kind == DOT and end > begin:
                scaled(own, shift(q, row * table[at.Q_STRIDE]), heads * width, scale, zero)
                if features:
                    u = shift(pointer(table[at.U], scratch), row * heads * edge_width)
                    scaled(own_u, u, heads * edge_width, scale, zero)
            for start in range(begin, end, block):
                n = min(block, end - start)
                list_block(table[at.LIST_EDGES], table, start, n, nodes)
                logits_of_target(
                    kind, features, edges, table, row, s, s, more, block, own, own_u, nodes, ids,
                    n, width, edge_width, zero,
                )  # fmt: skip
                weigh_and_bias(table, s, block, n, ids)
                if table[at.WEIGHTS] != 0:
                    sweep(table[at.WRITE_EDGES], table, s, block, n, ids, table[at.WEIGHTS])
                online_softmax(
                    s, block, n, heads, largest, summed, acc, value_width, extra, edge_width, zero
                )
                if table[at.DROP] != 0:
                    sweep(table[at.DROP], table, s, block, n, slots, 0)
                add_rows(
                    acc, value_width, 0, s, block, v, nodes, v_step, 0, value_width,
                    n, repeat, kv_heads, value_width, zero,
                )  # fmt: skip
                if features:
                    edge = pointer(table[at.EDGE], scratch)
                    add_rows(
                        extra, edge_width, 0, s, block, edge, ids, edge_width, 0, 0,
                        n, repeat, kv_heads, edge_width, zero,
                    )  # fmt: skip
            if partial < 0:
                out = shift(pointer(table[at.OUT], scratch), row * heads * value_width)
                z = shift(pointer(table[at.Z], scratch), row * heads * edge_width)
                lse = shift(pointer(table[at.LSE], scratch), row * heads)
                finish(
                    out, z, lse, acc, extra, largest, summed, heads, value_width, edge_width, zero
                )
            else:
                size = heads * (value_width + edge_width + 2)
                record = shift(pointer(table[at.PARTIAL], scratch), partial * size)
                scaled(record, acc, size, 1.0, zero)

    return forward


def make_forward_join(lanes: int) -> Callable[..., Any]:
    """Put a hub's parts together, in order."""

    def forward_join(item, table, scratch):
        zero = zeros(scratch, lanes)
        heads, value_width, edge_width = (
            table[at.HEADS],
            table[at.VALUE_WIDTH],
            table[at.EDGE_WIDTH],
        )
        hub = shift(pointer(table[at.HUBS], table), item * 3)
        row, size = hub[0], heads * (value_width + edge_width + 2)
        acc = shift(pointer(table[at.PARTIAL], scratch), hub[1] * size)
        extra = shift(acc, heads * value_width)
        largest = shift(extra, heads * edge_width)
        summed = shift(largest, heads)
        for part in range(1, hub[2] - hub[1]):
            other = shift(acc, part * size)
            for h in range(heads):
                offset = heads * (value_width + edge_width) + h
                top = max(largest[h], other[offset])
                base = top if top > -math.inf else 0.0
                ours, theirs = math.exp(largest[h] - base), math.exp(other[offset] - base)
                largest[h] = top
                summed[h] = summed[h] * ours + other[offset + heads] * theirs
                for i in range(h * value_width, (h + 1) * value_width):
                    acc[i] = acc[i] * ours + other[i] * theirs
                for i in range(h * edge_width, (h + 1) * edge_width):
                    extra[i] = extra[i] * ours + other[heads * value_width + i] * theirs
        out = shift(pointer(table[at.OUT], scratch), row * heads * value_width)
        z = shift(pointer(table[at.Z], scratch), row * heads * edge_width)
        lse = shift(pointer(table[at.LSE], scratch), row * heads)
        finish(out, z, lse, acc, extra, largest, summed, heads, value_width, edge_width, zero)

    return forward_join


def make_weights(lanes: int) -> Callable[..., Any]:
    """Turn the logits [E, H] that the forward pass left into weights, in place."""

    def weights(item, table, scratch):
        zero = zeros(scratch, lanes)
        heads, block = table[at.HEADS], table[at.BLOCK]
        nodes = cast(scratch, table)
        slots = shift(nodes, CAPACITY)
        ids = shift(slots, CAPACITY)
        s = cast(shift(ids, CAPACITY), scratch)
        work = shift(pointer(table[at.ITEMS], table), item * 5)
        for row in range(work[0], work[1]):
            begin = max(read_index(table[at.INDPTR], table[at.WIDE], row), work[2])
            end = min(read_index(table[at.INDPTR], table[at.WIDE], row + 1), work[3])
            lse = shift(pointer(table[at.LSE], scratch), row * heads)
            for start in range(begin, end, block):
                n = min(block, end - start)
                list_block(table[at.LIST_EDGES], table, start, n, nodes)
                fill(s, heads * block, 0.0, zero)
                sweep(table[at.ADD_EDGES], table, s, block, n, ids, table[at.WEIGHTS])
                weights_of(s, block, n, heads, lse, zero)
                if table[at.DROP] != 0:
                    sweep(table[at.DROP], table, s, block, n, slots, 0)
                sweep(table[at.WRITE_EDGES], table, s, block, n, ids, table[at.WEIGHTS])

    return weights
