"""Fused attention over CSR on a CPU, as numba kernels.

The forward pass runs over targets; the backward pass runs over targets and then over sources.
Memory is O(N H D + E): nothing of size E x H x D is allocated, and E x H only for returned weights.
Results are bit-equal for any number of threads. numba loads on the first call.
"""

from __future__ import annotations

from torch import Tensor
from typing_extensions import Unpack

from graphformer.adjacency import Adjacency, HeadEdges
from graphformer.ops.common import AttentionOptions, Result
from graphformer.ops.cpu.by_head import attention_by_head, of_union, walks_heads
from graphformer.ops.cpu.complete_attention import complete_attention
from graphformer.ops.cpu.loading import load_driver
from graphformer.ops.cpu.samples import small_samples
from graphformer.ops.fused.custom_op import call, call_with_features, make_operator
from graphformer.ops.fused.operands import ADDITIVE, DOT, GATV2

__all__ = [
    "APPLIES_OFFSET_BIAS",
    "HAS_CUSTOM_OPERATORS",
    "SUPPORTS_HEAD_EDGES",
    "additive_attention",
    "attention",
    "edge_feature_attention",
    "gatv2_attention",
]

APPLIES_OFFSET_BIAS = False
HAS_CUSTOM_OPERATORS = True
SUPPORTS_HEAD_EDGES = True


attend = make_operator("cpu", load_driver, device_types="cpu", backward_reads_out=False)


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    adjacency: Adjacency,
    *,
    scale: float,
    **options: Unpack[AttentionOptions],
) -> Result:
    """logit_ij = scale * (q_i . k_j)."""
    if isinstance(adjacency, HeadEdges) and walks_heads(options):
        return attention_by_head(attend, q, k, v, adjacency, kind=DOT, scale=scale, **options)
    samples = small_samples(q, k, v, adjacency, options)
    if samples is not None:
        out = complete_attention(attend, q, k, v, adjacency, samples, scale=scale, **options)
        return out, None
    of_union(adjacency, q, options)
    out, _, weights = call(attend, q, k, v, adjacency, kind=DOT, scale=scale, **options)
    return out, weights


def additive_attention(
    target_score: Tensor,
    source_score: Tensor,
    v: Tensor,
    adjacency: Adjacency,
    *,
    negative_slope: float,
    edge_score: Tensor | None = None,
    **options: Unpack[AttentionOptions],
) -> Result:
    """logit_ij = leaky_relu(target_score_i + source_score_j + edge_score_ij)."""
    if isinstance(adjacency, HeadEdges) and walks_heads(options):
        return attention_by_head(
            attend, target_score, source_score, v, adjacency,
            kind=ADDITIVE, edge=edge_score, slope=negative_slope, **options,
        )  # fmt: skip
    of_union(adjacency, target_score, options)
    out, _, weights = call(
        attend, target_score, source_score, v, adjacency,
        kind=ADDITIVE, edge=edge_score, slope=negative_slope, **options,
    )  # fmt: skip
    return out, weights


def gatv2_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    weight: Tensor,
    adjacency: Adjacency,
    *,
    negative_slope: float,
    edge_key: Tensor | None = None,
    **options: Unpack[AttentionOptions],
) -> Result:
    """logit_ij = weight . leaky_relu(q_i + k_j + edge_key_ij)."""
    of_union(adjacency, q, options)
    out, _, weights = call(
        attend, q, k, v, adjacency,
        kind=GATV2, vector=weight, edge=edge_key, slope=negative_slope, **options,
    )  # fmt: skip
    return out, weights


def edge_feature_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    edge_attr: Tensor,
    key_map: Tensor,
    value_map: Tensor,
    adjacency: Adjacency,
    *,
    scale: float,
    **options: Unpack[AttentionOptions],
) -> Result:
    """Attention with keys k_j + key_map e_ij and values v_j + value_map e_ij."""
    of_union(adjacency, q, options)
    return call_with_features(
        attend, q, k, v, edge_attr, key_map, value_map, adjacency, scale=scale, **options
    )
