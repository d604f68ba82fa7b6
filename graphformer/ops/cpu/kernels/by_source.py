"""Backward pass by source: gradients of keys, source scores and values; formulas in `by_target`."""

# mypy: disable-error-code="misc,no-untyped-call,no-untyped-def"
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphformer.ops.cpu.kernels import argument_table as at
from graphformer.ops.cpu.kernels.argument_table import (
    END_ROW,
    FIRST_ROW,
    PART,
    Heads,
    Rows,
    Tile,
    at_row,
    edge_lists,
    read_gatv2,
    row_slots,
    work_item,
)
from graphformer.ops.cpu.kernels.gradients import finish_dp, score_gradient
from graphformer.ops.cpu.kernels.indirect_calls import call_list_edges, call_step
from graphformer.ops.cpu.kernels.logits import (
    drop,
    logits_of_source,
    weight_and_bias,
)
from graphformer.ops.cpu.kernels.row_ops import (
    add_edge_dot_products,
    add_gatv2_gradients,
    add_weighted_rows,
    dot_products,
    fill,
    scale_row,
)
from graphformer.ops.cpu.kernels.simd import as_float, inlined, pointer, shift, zeros
from graphformer.ops.cpu.kernels.tile_ops import (
    logit_gradient_of_source,
    softmax_of_source,
)
from graphformer.ops.fused.operands import ADDITIVE, DOT, GATV2


def make_by_source(
    kind: int, lanes: int, fixed: int, value_fixed: int, edges: int, single: int
) -> Callable[..., Any]:
    """Gradients of keys (or source scores) and values; the neighbours are the targets here."""
    features = int(edges and kind == DOT)

    def by_source(item, table, scratch):
        zero = zeros(scratch, lanes)
        width = fixed if fixed > 0 else table[at.WIDTH]
        value_width = value_fixed if value_fixed > 0 else table[at.VALUE_WIDTH]
        edge_width = table[at.EDGE_WIDTH] if features else 0
        heads = Heads(table[at.HEADS], table[at.KV_HEADS], table[at.REPEAT])
        if single:  # constants, so that loops over heads vanish
            heads = Heads(1, 1, 1)
        num_heads, stride = heads.queries, table[at.TILE_STRIDE]
        lse, delta = pointer(table[at.LSE], scratch), pointer(table[at.DELTA], scratch)
        queries = Rows(pointer(table[at.Q], scratch), table[at.Q_STRIDE], width, 0)
        dout = Rows(pointer(table[at.DOUT], scratch), table[at.DOUT_STRIDE], value_width, 0)
        nodes, slots, ids, p = edge_lists(table, scratch)
        dp = shift(p, num_heads * stride)
        raw = shift(dp, num_heads * stride)
        keys = shift(raw, num_heads * stride)

        work = work_item(table, item)
        for row in range(work[FIRST_ROW], work[END_ROW]):
            begin, end = row_slots(table, work, row)
            key_size, value_size = heads.keys * width, heads.keys * value_width
            dk, dv = _source_gradients(table, row, work[PART], key_size, value_size, scratch)
            fill(dk, key_size, 0.0, zero)
            fill(dv, value_size, 0.0, zero)
            k = shift(pointer(table[at.K], scratch), row * table[at.K_STRIDE])
            if kind == DOT and end > begin:
                scale_row(keys, k, key_size, as_float(table[at.SCALE]), zero)
            for start in range(begin, end, stride):
                # Load: the targets, slots and ids of the tile's edges
                count = min(stride, end - start)
                call_list_edges(table[at.LIST_EDGES], table, start, count, nodes)
                tile = Tile(nodes, slots, ids, count, stride)
                # Recompute s_ij, then p_ij = exp(s_ij - lse_i)
                logits_of_source(
                    kind, features, edges, table, row, p, raw, keys, tile, heads, width,
                    edge_width, zero,
                )  # fmt: skip
                weight_and_bias(table, p, tile)
                softmax_of_source(p, lse, tile, num_heads, zero)
                # dp_ij, then ds_ij = p_ij (dp_ij - delta_i) in its place
                _dp_of_source(
                    features, table, row, dp, dout, tile, heads, value_width, edge_width, zero
                )
                ds = dp
                logit_gradient_of_source(ds, p, delta, tile, num_heads)
                drop(table, p, tile)  # after ds, which needs p before dropout
                if table[at.MULTIPLY] != 0:
                    call_step(table[at.MULTIPLY], table, ds, stride, count, ids, 0)
                # dv_j += sum_i p_ij dout_i, p after dropout; heads of a group share a row
                own = Rows(dv, 0, 0, value_width)
                add_weighted_rows(own, p, dout, nodes, tile, heads, value_width, zero)
                # dk_j += sum_i ds_ij q_i; scaled after the last tile
                own = Rows(dk, 0, 0, width)
                if kind == DOT:
                    add_weighted_rows(own, ds, queries, nodes, tile, heads, width, zero)
                elif kind == ADDITIVE:
                    score_gradient(table, dk, ds, raw, 0, tile, num_heads, zero)
                elif kind == GATV2:
                    add_gatv2_gradients(
                        own, 0, 0, ds, Rows(k, 0, 0, width), queries,
                        read_gatv2(table, edges, scratch), tile, heads, width, zero,
                    )  # fmt: skip
            if kind == DOT:
                scale_row(dk, dk, heads.keys * width, as_float(table[at.SCALE]), zero)

    return by_source


@inlined
def _source_gradients(table, row, part, key_size, value_size, like):
    """Where dk [Hkv, D] and dv [Hkv, Dv] of a row are written: the results or its part's record."""
    dk = at_row(table, at.DK, row, key_size, like)
    dv = at_row(table, at.DV, row, value_size, like)
    if part >= 0:
        dk = at_row(table, at.PARTIAL, part, key_size + value_size, like)
        dv = shift(dk, key_size)
    return dk, dv


@inlined
def _dp_of_source(features, table, row, dp, dout, tile, heads, value_width, edge_width, zero):
    """dp_ij, the gradient of the weights before dropout, [H, n] with padding of 0."""
    # dp_ij = v_j . dout_i
    v = shift(pointer(table[at.V], dp), row * table[at.V_STRIDE])
    own = Rows(v, 0, 0, value_width)
    ahead = heads.queries * value_width
    dot_products(dp, own, dout, tile.nodes, tile, heads, value_width, ahead, zero)
    if features:
        # dp_ij += dz_i . e_ij
        dz, edge = pointer(table[at.DZ], dp), pointer(table[at.EDGE], dp)
        add_edge_dot_products(dp, dz, edge, tile, heads, edge_width, 1.0, zero)
    finish_dp(table, dp, tile, heads.queries)
