"""Forward kernels: one pass by target computes scores, the online softmax and weighted values."""

# mypy: disable-error-code="misc,no-untyped-call,no-untyped-def"
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from graphformer.ops.cpu.kernels import argument_table as at
from graphformer.ops.cpu.kernels.argument_table import (
    END_ROW,
    FIRST_ROW,
    PART,
    Heads,
    Rows,
    Sums,
    Tile,
    at_row,
    edge_lists,
    row_slots,
    work_item,
)
from graphformer.ops.cpu.kernels.indirect_calls import call_list_edges, call_step
from graphformer.ops.cpu.kernels.logits import (
    drop,
    logits_of_target,
    scale_queries,
    weight_and_bias,
)
from graphformer.ops.cpu.kernels.row_ops import (
    add_weighted_rows,
    fill,
    prefetch_row,
    scale_row,
    whole_lines,
)
from graphformer.ops.cpu.kernels.simd import inlined, pointer, shift, zeros
from graphformer.ops.cpu.kernels.tile_ops import finish_row, online_softmax, softmax_of_target
from graphformer.ops.fused.operands import DOT

PREFETCHED = 4096
"""Most numbers of a tile's values that are prefetched while its logits are computed: 16 KiB."""


def make_forward(
    kind: int, lanes: int, fixed: int, value_fixed: int, edges: int, single: int
) -> Callable[..., Any]:
    """The pass over the rows of a work item; widths other than 0 are compiled in.

    `edges` says whether edges have features (dot products) or keys (GATv2), `single` whether there
    is one head only.
    """
    features = int(edges and kind == DOT)

    def forward(item, table, scratch):
        zero = zeros(scratch, lanes)
        width = fixed if fixed > 0 else table[at.WIDTH]
        value_width = value_fixed if value_fixed > 0 else table[at.VALUE_WIDTH]
        edge_width = table[at.EDGE_WIDTH] if features else 0
        heads = Heads(table[at.HEADS], table[at.KV_HEADS], table[at.REPEAT])
        if single:  # constants, so that loops over heads vanish
            heads = Heads(1, 1, 1)
        num_heads, stride = heads.queries, table[at.TILE_STRIDE]
        nodes, slots, ids, s = edge_lists(table, scratch)
        spare = shift(s, num_heads * stride)
        queries = shift(spare, num_heads * stride)
        edge_queries = shift(queries, whole_lines(num_heads * width))
        first = shift(edge_queries, whole_lines(num_heads * edge_width))
        sums = _sums_at(first, num_heads, value_width, edge_width)
        values = Rows(pointer(table[at.V], scratch), table[at.V_STRIDE], 0, value_width)
        edge_rows = Rows(pointer(table[at.EDGE], scratch), edge_width, 0, 0)

        work = work_item(table, item)
        for row in range(work[FIRST_ROW], work[END_ROW]):
            begin, end = row_slots(table, work, row)
            _reset(sums, num_heads, value_width, edge_width, zero)
            if kind == DOT and end > begin:
                scale_queries(
                    table, row, queries, edge_queries, heads, width, edge_width, features, zero
                )
            for start in range(begin, end, stride):
                # Load: the neighbours, slots and ids of the tile's edges
                count = min(stride, end - start)
                call_list_edges(table[at.LIST_EDGES], table, start, count, nodes)
                tile = Tile(nodes, slots, ids, count, stride)
                if count * heads.keys * value_width <= PREFETCHED:
                    for e in range(count):
                        at_node = nodes[e] * values.step
                        prefetch_row(values.base, at_node, heads.keys * value_width)
                # s_ij, [H, n]; stored if weights are returned, see `make_weights`
                logits_of_target(
                    kind, features, edges, table, row, s, s, spare, queries, edge_queries,
                    tile, heads, width, edge_width, zero,
                )  # fmt: skip
                weight_and_bias(table, s, tile)
                if table[at.WEIGHTS] != 0:
                    call_step(
                        table[at.WRITE_EDGES], table, s, stride, count, ids, table[at.WEIGHTS]
                    )
                # s = p_ij = exp(s_ij - m_i). Dropout comes after it: the total has all edges
                online_softmax(s, tile, sums, num_heads, value_width, edge_width, zero)
                drop(table, s, tile)
                # sum_j p_ij v_j, [H, Dv], and sum_j p_ij e_ij, [H, F]
                own = Rows(sums.values, 0, value_width, 0)
                add_weighted_rows(own, s, values, nodes, tile, heads, value_width, zero)
                if features:
                    own = Rows(sums.features, 0, edge_width, 0)
                    add_weighted_rows(own, s, edge_rows, ids, tile, heads, edge_width, zero)
            if work[PART] < 0:
                _store_row(table, row, sums, num_heads, value_width, edge_width, zero)
            else:
                # Part of a split row: all sums as they are, for `forward_join`
                size = num_heads * (value_width + edge_width + 2)
                record = at_row(table, at.PARTIAL, work[PART], size, scratch)
                scale_row(record, sums.values, size, 1.0, zero)

    return forward


def make_forward_join(lanes: int) -> Callable[..., Any]:
    """Combine the parts of a split row, in order, into the sums of its first part."""

    def forward_join(item, table, scratch):
        zero = zeros(scratch, lanes)
        heads, value_width = table[at.HEADS], table[at.VALUE_WIDTH]
        edge_width = table[at.EDGE_WIDTH]
        hub = shift(pointer(table[at.HUBS], table), item * 3)  # row, first part, end part
        size = heads * (value_width + edge_width + 2)
        record = at_row(table, at.PARTIAL, hub[1], size, scratch)
        sums = _sums_at(record, heads, value_width, edge_width)
        for part in range(1, hub[2] - hub[1]):
            other = _sums_at(shift(record, part * size), heads, value_width, edge_width)
            for h in range(heads):
                # m = max(m_a, m_b); both parts' sums are rescaled by exp(their m - m)
                largest = max(sums.largest[h], other.largest[h])
                base = largest if largest > -math.inf else 0.0
                factor = math.exp(sums.largest[h] - base)
                other_factor = math.exp(other.largest[h] - base)
                sums.largest[h] = largest
                sums.total[h] = sums.total[h] * factor + other.total[h] * other_factor
                for i in range(h * value_width, (h + 1) * value_width):
                    sums.values[i] = sums.values[i] * factor + other.values[i] * other_factor
                for i in range(h * edge_width, (h + 1) * edge_width):
                    sums.features[i] = sums.features[i] * factor + other.features[i] * other_factor
        _store_row(table, hub[0], sums, heads, value_width, edge_width, zero)

    return forward_join


def make_weights(lanes: int) -> Callable[..., Any]:
    """Turn the logits [E, H] that the forward pass stored into weights, in place.

    A pass of its own, because a row's normaliser is known after its last edge only.
    """

    def weights(item, table, scratch):
        zero = zeros(scratch, lanes)
        heads, stride = table[at.HEADS], table[at.TILE_STRIDE]
        nodes, slots, ids, s = edge_lists(table, scratch)
        work = work_item(table, item)
        for row in range(work[FIRST_ROW], work[END_ROW]):
            begin, end = row_slots(table, work, row)
            lse = at_row(table, at.LSE, row, heads, scratch)
            for start in range(begin, end, stride):
                count = min(stride, end - start)
                call_list_edges(table[at.LIST_EDGES], table, start, count, nodes)
                tile = Tile(nodes, slots, ids, count, stride)
                # s = the stored logits; p_ij = exp(s_ij - lse_i), then dropout
                fill(s, heads * stride, 0.0, zero)
                call_step(table[at.ADD_EDGES], table, s, stride, count, ids, table[at.WEIGHTS])
                softmax_of_target(s, lse, tile, heads, zero)
                drop(table, s, tile)
                call_step(table[at.WRITE_EDGES], table, s, stride, count, ids, table[at.WEIGHTS])

    return weights


# The sums of a row ------------------------------------------------------------------------------


@inlined
def _sums_at(base, heads, value_width, edge_width):
    """Sums that are stored one after another from `base` on, as in the record of a part."""
    features = shift(base, heads * value_width)
    largest = shift(features, heads * edge_width)
    return Sums(base, features, largest, shift(largest, heads))


@inlined
def _reset(sums, heads, value_width, edge_width, zero):
    """The sums of no edges."""
    fill(sums.largest, heads, -math.inf, zero)
    fill(sums.total, heads, 0.0, zero)
    fill(sums.values, heads * value_width, 0.0, zero)
    fill(sums.features, heads * edge_width, 0.0, zero)


@inlined
def _store_row(table, row, sums, heads, value_width, edge_width, zero):
    """Divide the sums and write out [H, Dv], z [H, F] and the log-sum-exp [H] of a row."""
    out = at_row(table, at.OUT, row, heads * value_width, sums.values)
    z = at_row(table, at.Z, row, heads * edge_width, sums.values)
    lse = at_row(table, at.LSE, row, heads, sums.values)
    finish_row(out, z, lse, sums, heads, value_width, edge_width, zero)
