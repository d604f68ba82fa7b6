"""Pieces of kernels that compute the logits of a block of edges; inlined into them.

`kind`, `features` and `edges` are constants of the kernel, so that only one branch stays.
"""

# mypy: disable-error-code="misc,no-untyped-call,no-untyped-def"
from __future__ import annotations

from graphformer.ops.cpu import argument_table as at
from graphformer.ops.cpu.edge_blocks import plus, rectify, scores_additive
from graphformer.ops.cpu.feature_rows import dots, dots_edges, inlined, scaled, scores_gatv2
from graphformer.ops.cpu.indirect_calls import sweep
from graphformer.ops.cpu.simd import as_float, pointer, shift
from graphformer.ops.custom_op import ADDITIVE, DOT, GATV2


@inlined
def logits_of_target(
    kind, features, edges, table, row, s, raw, more, stride, own, own_u, nodes, ids, n,
    width, edge_width, zero,
):  # fmt: skip
    """s = the logits of target `row`'s edges; raw = those before the LeakyReLU, if additive.

    own and own_u are the target's queries times the scale; more is room for a block.
    """
    heads, kv_heads, repeat = table[at.HEADS], table[at.KV_HEADS], table[at.REPEAT]
    slope, step = as_float(table[at.SLOPE]), table[at.K_STRIDE]
    q, k = pointer(table[at.Q], s), pointer(table[at.K], s)
    edge = pointer(table[at.EDGE], s)
    if kind == DOT:
        dots(
            s, stride, own, width, 0, k, nodes, step, 0, width,
            n, repeat, kv_heads, width, zero, table[at.PREFETCH] * kv_heads * width,
        )  # fmt: skip
        if features:
            dots(
                more, stride, own_u, edge_width, 0, edge, ids, edge_width, 0, 0,
                n, repeat, kv_heads, edge_width, zero, 0,
            )  # fmt: skip
            plus(s, more, stride, n, heads, zero)
    elif kind == ADDITIVE:
        scores_additive(raw, stride, shift(q, row * heads), k, nodes, n, heads)
        _rectified(table, s, raw, stride, n, heads, slope, ids, zero)
    elif kind == GATV2:
        scores_gatv2(
            s, stride, shift(q, row * table[at.Q_STRIDE]), width, 0, k, nodes, step, 0, width,
            n, repeat, kv_heads, width, pointer(table[at.VECTOR], s), slope, edges, edge, ids, zero,
        )  # fmt: skip


@inlined
def logits_of_source(
    kind, features, edges, table, row, s, raw, stride, own, nodes, ids, n, width, edge_width, zero,
):  # fmt: skip
    """The same for a source's edges: own is its keys times the scale, nodes are the targets."""
    heads, kv_heads, repeat = table[at.HEADS], table[at.KV_HEADS], table[at.REPEAT]
    slope, step = as_float(table[at.SLOPE]), table[at.Q_STRIDE]
    q, k = pointer(table[at.Q], s), pointer(table[at.K], s)
    edge = pointer(table[at.EDGE], s)
    if kind == DOT:
        dots(
            s, stride, own, 0, width, q, nodes, step, width, 0,
            n, repeat, kv_heads, width, zero, table[at.PREFETCH] * heads * width,
        )  # fmt: skip
        if features:
            scale, u = as_float(table[at.SCALE]), pointer(table[at.U], s)
            dots_edges(s, stride, u, nodes, edge, ids, n, heads, edge_width, scale, zero)
    elif kind == ADDITIVE:
        scores_additive(raw, stride, shift(k, row * heads), q, nodes, n, heads)
        _rectified(table, s, raw, stride, n, heads, slope, ids, zero)
    elif kind == GATV2:
        scores_gatv2(
            s, stride, shift(k, row * table[at.K_STRIDE]), 0, width, q, nodes, step, width, 0,
            n, repeat, kv_heads, width, pointer(table[at.VECTOR], s), slope, edges, edge, ids, zero,
        )  # fmt: skip


@inlined
def _rectified(table, s, raw, stride, n, heads, slope, ids, zero):
    """s = leaky_relu(raw + edge_score), which raw becomes too."""
    if table[at.EDGE] != 0:
        sweep(table[at.ADD_EDGES], table, raw, stride, n, ids, table[at.EDGE])
    scaled(s, raw, heads * stride, 1.0, zero)
    rectify(s, stride, n, heads, slope, zero)


@inlined
def weigh_and_bias(table, s, stride, n, ids):
    """s = s * edge_weight + bias, where there are any."""
    if table[at.MULTIPLY] != 0:
        sweep(table[at.MULTIPLY], table, s, stride, n, ids, 0)
    if table[at.ADD_BIAS] != 0:
        sweep(table[at.ADD_BIAS], table, s, stride, n, ids, 0)
