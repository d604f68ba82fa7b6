"""Logits of a tile of edges, from one target or from one source; inlined into the kernels.

`kind`, `features` and `edges` are constants of a kernel, so that one branch remains of each `if`.
"""

# mypy: disable-error-code="misc,no-untyped-call,no-untyped-def"
from __future__ import annotations

from graphformer.ops.cpu.kernels import argument_table as at
from graphformer.ops.cpu.kernels.argument_table import Rows, at_row, read_gatv2
from graphformer.ops.cpu.kernels.indirect_calls import call_step
from graphformer.ops.cpu.kernels.row_ops import (
    add_edge_dot_products,
    dot_products,
    gatv2_scores,
    scale_row,
)
from graphformer.ops.cpu.kernels.simd import as_float, inlined, pointer, shift
from graphformer.ops.cpu.kernels.tile_ops import add, additive_scores, apply_leaky_relu
from graphformer.ops.fused.operands import ADDITIVE, DOT, GATV2


@inlined
def scale_queries(table, row, queries, edge_queries, heads, width, edge_width, features, zero):
    """queries = scale * q_i, [H, D], and edge_queries = scale * u_i, [H, F].

    Scaling H x D numbers once per row costs less than scaling H numbers per edge.
    """
    scale = as_float(table[at.SCALE])
    q = shift(pointer(table[at.Q], queries), row * table[at.Q_STRIDE])
    scale_row(queries, q, heads.queries * width, scale, zero)
    if features:
        count = heads.queries * edge_width
        scale_row(edge_queries, at_row(table, at.U, row, count, queries), count, scale, zero)


@inlined
def logits_of_target(
    kind, features, edges, table, row, s, raw, spare, queries, edge_queries, tile, heads, width,
    edge_width, zero,
):  # fmt: skip
    """s_ij of target i = `row`, [H, n], before edge weight and bias.

    For additive scores, raw = their sums before the LeakyReLU; it may be s otherwise. `queries` and
    `edge_queries` come from `scale_queries`; `spare` is room for a tile.
    """
    own = Rows(queries, 0, width, 0)
    keys = Rows(pointer(table[at.K], s), table[at.K_STRIDE], 0, width)
    if kind == DOT:
        # s_ij = (scale q_i) . k_j
        ahead = heads.keys * width
        dot_products(s, own, keys, tile.nodes, tile, heads, width, ahead, zero)
        if features:
            # s_ij += (scale u_i) . e_ij, with u_i = key_map^T q_i
            edge_rows = Rows(pointer(table[at.EDGE], s), edge_width, 0, 0)
            edge_own = Rows(edge_queries, 0, edge_width, 0)
            dot_products(spare, edge_own, edge_rows, tile.ids, tile, heads, edge_width, 0, zero)
            add(s, spare, tile, heads.queries, zero)
    elif kind == ADDITIVE:
        # raw_ij = t_i + s_j
        own_score = shift(pointer(table[at.Q], s), row * heads.queries)
        additive_scores(raw, own_score, keys.base, tile, heads.queries)
        _leaky_relu_scores(table, s, raw, tile, heads.queries, zero)
    elif kind == GATV2:
        # s_ij = a . leaky_relu(q_i + k_j (+ e_ij))
        q = shift(pointer(table[at.Q], s), row * table[at.Q_STRIDE])
        own = Rows(q, 0, width, 0)
        gatv2_scores(s, own, keys, read_gatv2(table, edges, s), tile, heads, width, zero)


@inlined
def logits_of_source(
    kind, features, edges, table, row, s, raw, keys, tile, heads, width, edge_width, zero
):
    """s_ij of source j = `row`, [H, n], before edge weight and bias; tile.nodes are targets i.

    `keys` is scale * k_j, [Hkv, D], for dot products; raw as in `logits_of_target`.
    """
    own = Rows(keys, 0, 0, width)
    queries = Rows(pointer(table[at.Q], s), table[at.Q_STRIDE], width, 0)
    if kind == DOT:
        # s_ij = q_i . (scale k_j)
        ahead = heads.queries * width
        dot_products(s, own, queries, tile.nodes, tile, heads, width, ahead, zero)
        if features:
            # s_ij += scale (u_i . e_ij)
            u, edge = pointer(table[at.U], s), pointer(table[at.EDGE], s)
            scale = as_float(table[at.SCALE])
            add_edge_dot_products(s, u, edge, tile, heads, edge_width, scale, zero)
    elif kind == ADDITIVE:
        # raw_ij = t_i + s_j
        own_score = shift(pointer(table[at.K], s), row * heads.queries)
        additive_scores(raw, own_score, queries.base, tile, heads.queries)
        _leaky_relu_scores(table, s, raw, tile, heads.queries, zero)
    elif kind == GATV2:
        # s_ij = a . leaky_relu(q_i + k_j (+ e_ij))
        k = shift(pointer(table[at.K], s), row * table[at.K_STRIDE])
        own = Rows(k, 0, 0, width)
        gatv2_scores(s, own, queries, read_gatv2(table, edges, s), tile, heads, width, zero)


@inlined
def _leaky_relu_scores(table, s, raw, tile, heads, zero):
    """raw_ij += edge_score_ij, where there is one, and s = leaky_relu(raw), [H, n]."""
    if table[at.EDGE] != 0:
        call_step(table[at.ADD_EDGES], table, raw, tile.stride, tile.size, tile.ids, table[at.EDGE])
    scale_row(s, raw, heads * tile.stride, 1.0, zero)
    apply_leaky_relu(s, as_float(table[at.SLOPE]), tile, heads, zero)


@inlined
def weight_and_bias(table, s, tile):
    """s_ij = w_ij s_ij + b_ij, [H, n], where there is an edge weight or a bias."""
    if table[at.MULTIPLY] != 0:
        call_step(table[at.MULTIPLY], table, s, tile.stride, tile.size, tile.ids, 0)
    if table[at.ADD_BIAS] != 0:
        call_step(table[at.ADD_BIAS], table, s, tile.stride, tile.size, tile.ids, 0)


@inlined
def drop(table, x, tile):
    """x = x * mask / (1 - dropout), [H, n], where there is dropout."""
    if table[at.DROP] != 0:
        call_step(table[at.DROP], table, x, tile.stride, tile.size, tile.slots, 0)
