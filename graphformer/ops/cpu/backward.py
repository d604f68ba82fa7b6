"""Backward kernels: by target for queries and edges, by source for keys and values.

Both recompute the weights p from the log-sum-exp, so that nothing of size E x H is stored between
passes. With out_i = sum_j p_ij v_j (without dropout):

    dp_ij = dout_i . v_j           delta_i = sum_j p_ij dp_ij       ds_ij = p_ij (dp_ij - delta_i)
    dq_i = scale sum_j ds_ij k_j   dk_j = scale sum_i ds_ij q_i     dv_j = sum_i p_ij dout_i

Source: Dao et al., 2022, arXiv:2205.14135, section 3.1 and algorithm 4.
"""

# mypy: disable-error-code="misc,no-untyped-call,no-untyped-def"
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphformer.ops.cpu import argument_table as at
from graphformer.ops.cpu.argument_table import (
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
from graphformer.ops.cpu.indirect_calls import call_list_edges, call_step
from graphformer.ops.cpu.logits import (
    drop,
    logits_of_source,
    logits_of_target,
    scale_queries,
    weight_and_bias,
)
from graphformer.ops.cpu.row_ops import (
    add_edge_dot_products,
    add_gatv2_gradients,
    add_weighted_rows,
    dot_products,
    fill,
    scale_row,
    whole_lines,
    write_feature_gradient,
)
from graphformer.ops.cpu.simd import as_float, inlined, pointer, shift, size_of, zeros
from graphformer.ops.cpu.tile_ops import (
    add,
    add_sums,
    leaky_relu_backward,
    logit_gradient_of_source,
    logit_gradient_of_target,
    multiply,
    pad,
    softmax_of_source,
    softmax_of_target,
    sum_of_products,
)
from graphformer.ops.operands import ADDITIVE, DOT, GATV2

# By target --------------------------------------------------------------------------------------


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
                _score_gradient(table, dq, ds, raw, table[at.DEDGE], tile, num_heads, zero)
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
    _finish_dp(table, dp, tile, heads.queries)


@inlined
def _finish_dp(table, dp, tile, heads):
    """Add the gradient of returned weights, then apply dropout: weights are returned after it."""
    if table[at.DWEIGHTS] != 0:
        base = table[at.DWEIGHTS]
        call_step(table[at.ADD_EDGES], table, dp, tile.stride, tile.size, tile.ids, base)
    drop(table, dp, tile)
    pad(dp, tile, heads, 0.0)


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


@inlined
def _score_gradient(table, dscore, ds, raw, dedge, tile, heads, zero):
    """dscore += sum_e ds leaky_relu'(raw), [H], for additive scores.

    The summands are also the gradients of the edge scores; they are written to address dedge,
    [E, H], unless that is 0.
    """
    leaky_relu_backward(ds, raw, as_float(table[at.SLOPE]), tile, heads, zero)
    if dedge != 0:
        call_step(table[at.WRITE_EDGES], table, ds, tile.stride, tile.size, tile.ids, dedge)
    add_sums(dscore, ds, tile, heads)


# By source --------------------------------------------------------------------------------------


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
                    _score_gradient(table, dk, ds, raw, 0, tile, num_heads, zero)
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
    _finish_dp(table, dp, tile, heads.queries)


# Split rows -------------------------------------------------------------------------------------


def make_sum_join(lanes: int) -> Callable[..., Any]:
    """Sum the parts of a split row, in order, into up to two results.

    A part's record is a row of the first result, then one of the second, as in `_source_gradients`.
    """

    def sum_join(item, table, scratch):
        zero = zeros(scratch, lanes)
        width, other_width = table[at.WIDTH], table[at.VALUE_WIDTH]
        hub = shift(pointer(table[at.HUBS], table), item * 3)  # row, first part, end part
        row, size = hub[0], width + other_width
        total = at_row(table, at.PARTIAL, hub[1], size, scratch)
        for part in range(1, hub[2] - hub[1]):
            record = shift(total, part * size)
            for i in range(size):
                total[i] += record[i]
        scale_row(at_row(table, at.OUT, row, width, scratch), total, width, 1.0, zero)
        other = at_row(table, at.Z, row, other_width, scratch)
        scale_row(other, shift(total, width), other_width, 1.0, zero)

    return sum_join
