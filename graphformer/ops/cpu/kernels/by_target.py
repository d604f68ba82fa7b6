"""Backward pass by target: gradients of queries, target scores and edge values.

This pass and the one by source (`by_source`) recompute the weights p from the log-sum-exp, so that
nothing of size E x H is stored between passes. With out_i = sum_j p_ij v_j (without dropout):

    dp_ij = dout_i . v_j           delta_i = sum_j p_ij dp_ij       ds_ij = p_ij (dp_ij - delta_i)
    dq_i = scale sum_j ds_ij k_j   dk_j = scale sum_i ds_ij q_i     dv_j = sum_i p_ij dout_i

Source: Dao et al., 2022, arXiv:2205.14135, section 3.1 and algorithm 4.
"""

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
    logits_of_target,
    scale_queries,
    weight_and_bias,
)
from graphformer.ops.cpu.kernels.row_ops import (
    add_gatv2_gradients,
    add_weighted_rows,
    dot_products,
    fill,
    scale_row,
    whole_lines,
    write_feature_gradient,
)
from graphformer.ops.cpu.kernels.simd import as_float, inlined, pointer, shift, size_of, zeros
from graphformer.ops.cpu.kernels.tile_ops import (
    add,
    logit_gradient_of_target,
    multiply,
    softmax_of_target,
    sum_of_products,
)
from graphformer.ops.fused.operands import ADDITIVE, DOT, GATV2


def make_by_target(
    kind: int, lanes: int, fixed: int, value_fixed: int, edges: int, single: int
) -> Callable[..., Any]:
    """Gradients of queries, target scores and edge values; stores delta for the pass by source.

    A tile is a whole row: ds needs delta_i, which is known after the row's last edge. The delta of
    a split row is summed over several work items: in phase 0 each stores its share, in phase 1
    each continues from the sum. Rows that are not split are finished in phase 0.
    """
    features = int(edges and kind == DOT)

    def by_target(item, table, scratch):
        zero = zeros(scratch, lanes)
        width = fixed if fixed > 0 else table[at.WIDTH]
        value_width = value_fixed if value_fixed > 0 else table[at.VALUE_WIDTH]
        edge_width = table[at.EDGE_WIDTH] if features else 0
        heads = Heads(table[at.HEADS], table[at.KV_HEADS], table[at.REPEAT])
        if single:  # constants, so that loops over heads vanish
            heads = Heads(1, 1, 1)
        num_heads, phase = heads.queries, table[at.PHASE]
        work = work_item(table, item)
        part = work[PART]
        if phase == 1 and part < 0:
            return
        nodes, slots, ids, queries = edge_lists(table, scratch)
        edge_queries = shift(queries, whole_lines(num_heads * width))
        s = shift(edge_queries, whole_lines(num_heads * edge_width))
        dvector = 0
        if kind == GATV2:
            dvector = _vector_gradient(table, item, part, phase, num_heads * width, scratch, zero)

        for row in range(work[FIRST_ROW], work[END_ROW]):
            begin, end = row_slots(table, work, row)
            count = end - begin
            delta, dq, du = _target_gradients(
                table, row, part, phase, num_heads, width, edge_width, scratch
            )
            if part < 0 or phase == 1:
                fill(dq, num_heads * width, 0.0, zero)
                fill(du, num_heads * edge_width, 0.0, zero)
            if count <= 0:
                fill(delta, num_heads, 0.0, zero)
                continue
            # Load: the row's edges; scratch for p, raw scores, spare and dp, [H, n] each
            stride = (count + 15) // 16 * 16 + 16
            call_list_edges(table[at.LIST_EDGES], table, begin, count, nodes)
            tile = Tile(nodes, slots, ids, count, stride)
            p, raw = s, shift(s, num_heads * stride)
            spare, dp = shift(s, 2 * num_heads * stride), shift(s, 3 * num_heads * stride)
            if kind == DOT:
                scale_queries(
                    table, row, queries, edge_queries, heads, width, edge_width, features, zero
                )
            # Recompute s_ij, then p_ij = exp(s_ij - lse_i)
            logits_of_target(
                kind, features, edges, table, row, p, raw, spare, queries, edge_queries,
                tile, heads, width, edge_width, zero,
            )  # fmt: skip
            if table[at.DWEIGHT] != 0:
                # dweight_ij = ds_ij s_ij needs s before the edge weight
                scale_row(spare, p, num_heads * stride, 1.0, zero)
            weight_and_bias(table, p, tile)
            lse = at_row(table, at.LSE, row, num_heads, scratch)
            softmax_of_target(p, lse, tile, num_heads, zero)
            # dp_ij; raw is free where there are edge features, for scores are then dot products
            _dp_of_target(features, table, row, dp, raw, tile, heads, value_width, edge_width, zero)
            # delta_i = sum_j p_ij dp_ij, from dp rather than as dout_i . out_i: out is rounded in
            # half precision, and a common offset of dp would not cancel in ds
            if phase == 0:
                sum_of_products(delta, p, dp, tile, num_heads, zero)
                if part >= 0:
                    continue
            # ds_ij = p_ij (dp_ij - delta_i), in place of dp
            ds = dp
            logit_gradient_of_target(ds, p, delta, tile, num_heads, zero)
            _store_edge_gradients(table, ds, spare, tile, num_heads, zero)
            # Gradients of queries: dq_i = scale sum_j ds_ij k_j
            if kind == DOT:
                _query_gradient(table, dq, ds, tile, heads, width, zero)
                if features:
                    _feature_gradients(
                        table, row, du, ds, p, edge_queries, tile, heads, edge_width, zero
                    )
            elif kind == ADDITIVE:
                score_gradient(table, dq, ds, raw, table[at.DEDGE], tile, num_heads, zero)
            elif kind == GATV2:
                q = shift(pointer(table[at.Q], scratch), row * table[at.Q_STRIDE])
                keys = Rows(pointer(table[at.K], scratch), table[at.K_STRIDE], 0, width)
                add_gatv2_gradients(
                    Rows(dq, 0, width, 0), dvector, table[at.DEDGE], ds,
                    Rows(q, 0, width, 0), keys, read_gatv2(table, edges, scratch),
                    tile, heads, width, zero,
                )  # fmt: skip

    return by_target


@inlined
def _target_gradients(table, row, part, phase, heads, width, edge_width, like):
    """Where delta [H], dq [H, D] and du [H, F] of a row are written.

    A part of a split row writes delta to its record in phase 0 and reads the sum from the result in
    phase 1; it writes dq and du to its record.
    """
    delta = at_row(table, at.DELTA, row, heads, like)
    dq = at_row(table, at.DQ, row, heads * width, like)
    du = at_row(table, at.DU, row, heads * edge_width, like)
    if part >= 0:
        if phase == 0:
            delta = at_row(table, at.PARTIAL, part, heads, like)
        else:
            dq = at_row(table, at.PARTIAL, part, heads * (width + edge_width), like)
            du = shift(dq, heads * width)
    return delta, dq, du


@inlined
def _vector_gradient(table, item, part, phase, count, like, zero):
    """The address of a work item's own gradient of GATv2's vector, `count` = H D zeros.

    Items are summed in order afterwards. Nothing is written in phase 0 of a split row.
    """
    address = table[at.DVECTOR] + item * count * size_of(like)
    if not (part >= 0 and phase == 0):
        fill(pointer(address, like), count, 0.0, zero)
    return address


@inlined
def _dp_of_target(features, table, row, dp, spare, tile, heads, value_width, edge_width, zero):
    """dp_ij, the gradient of the weights before dropout, [H, n] with padding of 0."""
    # dp_ij = dout_i . v_j
    dout = shift(pointer(table[at.DOUT], dp), row * table[at.DOUT_STRIDE])
    own = Rows(dout, 0, value_width, 0)
    values = Rows(pointer(table[at.V], dp), table[at.V_STRIDE], 0, value_width)
    ahead = heads.keys * value_width
    dot_products(dp, own, values, tile.nodes, tile, heads, value_width, ahead, zero)
    if features:
        # dp_ij += dz_i . e_ij
        dz = at_row(table, at.DZ, row, heads.queries * edge_width, dp)
        own = Rows(dz, 0, edge_width, 0)
        edge_rows = Rows(pointer(table[at.EDGE], dp), edge_width, 0, 0)
        dot_products(spare, own, edge_rows, tile.ids, tile, heads, edge_width, 0, zero)
        add(dp, spare, tile, heads.queries, zero)
    finish_dp(table, dp, tile, heads.queries)


@inlined
def _store_edge_gradients(table, ds, scores, tile, heads, zero):
    """dbias_ij = ds_ij, dweight_ij = ds_ij s_ij; then ds_ij *= w_ij, [H, n].

    Logits are w s + b; from here on ds is the gradient of s. `scores` holds s and is overwritten.
    """
    stride, count, ids = tile.stride, tile.size, tile.ids
    if table[at.DBIAS] != 0:
        call_step(table[at.WRITE_EDGES], table, ds, stride, count, ids, table[at.DBIAS])
    if table[at.DWEIGHT] != 0:
        multiply(scores, ds, tile, heads, zero)
        call_step(table[at.WRITE_EDGES], table, scores, stride, count, ids, table[at.DWEIGHT])
    if table[at.MULTIPLY] != 0:
        call_step(table[at.MULTIPLY], table, ds, stride, count, ids, 0)


@inlined
def _query_gradient(table, dq, ds, tile, heads, width, zero):
    """dq_i = scale sum_j ds_ij k_j, [H, D]; dq holds zeros."""
    own = Rows(dq, 0, width, 0)
    keys = Rows(pointer(table[at.K], dq), table[at.K_STRIDE], 0, width)
    add_weighted_rows(own, ds, keys, tile.nodes, tile, heads, width, zero)
    scale_row(dq, dq, heads.queries * width, as_float(table[at.SCALE]), zero)


@inlined
def _feature_gradients(table, row, du, ds, p, edge_queries, tile, heads, width, zero):
    """du_i = scale sum_j ds_ij e_ij, [H, F], and de_ij = sum_h scale ds_ij u_i + p_ij dz_i, [F].

    `edge_queries` is scale * u_i. Values include p_ij after dropout, which is applied to p here.
    """
    own = Rows(du, 0, width, 0)
    edge_rows = Rows(pointer(table[at.EDGE], du), width, 0, 0)
    add_weighted_rows(own, ds, edge_rows, tile.ids, tile, heads, width, zero)
    scale_row(du, du, heads.queries * width, as_float(table[at.SCALE]), zero)
    if table[at.DEDGE] != 0:
        drop(table, p, tile)
        dz = at_row(table, at.DZ, row, heads.queries * width, du)
        dedge = pointer(table[at.DEDGE], du)
        write_feature_gradient(dedge, ds, edge_queries, p, dz, tile, heads, width, zero)
