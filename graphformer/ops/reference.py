"""Attention as its definition reads. All other backends are tested against it.

Everything is computed per edge, in the order of the CSR's slots: slot e has target i = target[e]
and source j = indices[e], so that q[target] * k[indices] is q_i k_j for all edges.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import Unpack

from graphformer.adjacency import CSR, Adjacency
from graphformer.ops.common import AttentionOptions, Result, drop_weights, per_head, upcast

APPLIES_OFFSET_BIAS = False
HAS_CUSTOM_OPERATORS = False
SUPPORTS_HEAD_EDGES = False


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
    csr = adjacency.to_csr()
    wide_q, wide_k, wide_v = upcast(q, per_head(k, q.shape[1]), per_head(v, q.shape[1]))
    logits = scale * (wide_q[csr.target] * wide_k[csr.indices]).sum(-1)
    return weighted_sum(logits, wide_v[csr.indices], csr, v.dtype, **options)


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
    csr = adjacency.to_csr()
    target_score, source_score, wide_v = upcast(target_score, source_score, v)
    score = target_score[csr.target] + source_score[csr.indices]
    if edge_score is not None:
        score = score + by_slot(edge_score, csr)
    logits = F.leaky_relu(score, negative_slope)
    return weighted_sum(logits, wide_v[csr.indices], csr, v.dtype, **options)


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
    csr = adjacency.to_csr()
    q, k, wide_v = upcast(q, per_head(k, q.shape[1]), per_head(v, q.shape[1]))
    (weight,) = upcast(weight)
    hidden = q[csr.target] + k[csr.indices]
    if edge_key is not None:
        hidden = hidden + by_slot(edge_key, csr)
    logits = (weight * F.leaky_relu(hidden, negative_slope)).sum(-1)
    return weighted_sum(logits, wide_v[csr.indices], csr, v.dtype, **options)


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
    """logit_ij = scale * q_i . (k_j + key_map e_ij); the values are v_j + value_map e_ij."""
    csr = adjacency.to_csr()
    e, key_map, value_map = upcast(by_slot(edge_attr, csr), key_map, value_map)
    q, k, wide_v = upcast(q, per_head(k, q.shape[1]), per_head(v, q.shape[1]))
    keys = k[csr.indices] + torch.einsum("hde,ne->nhd", key_map, e)
    values = wide_v[csr.indices] + torch.einsum("hde,ne->nhd", value_map, e)
    logits = scale * (q[csr.target] * keys).sum(-1)
    return weighted_sum(logits, values, csr, v.dtype, **options)


def weighted_sum(
    logits: Tensor,
    values: Tensor,
    csr: CSR,
    dtype: torch.dtype,
    *,
    bias: Tensor | None,
    edge_weight: Tensor | None,
    dropout: float,
    seed: Tensor | None,
    return_weights: bool,
    positions: Tensor | None = None,
) -> Result:
    """y_i = sum_j softmax_j(w_ij logit_ij + b_ij) v_ij, for logits [E, H] and values [E, H, Dv].

    `positions` [E] are those of the slots in the mask of dropout, if they differ.
    """
    if edge_weight is not None:
        logits = logits * by_slot(edge_weight, csr)
    if bias is not None:
        logits = logits + by_slot(bias, csr)
    weights = segment_softmax(logits, csr.target, csr.shape[0])
    weights = drop_weights(weights, dropout, seed, positions)
    out = values.new_zeros(csr.shape[0], *values.shape[1:])
    out = out.index_add(0, csr.target, weights.unsqueeze(-1) * values)
    return out.to(dtype), weights[csr.slots].to(dtype) if return_weights else None


def by_slot(values: Tensor, csr: CSR) -> Tensor:
    """Edge-aligned values, given in the caller's order, in the order of the CSR's slots."""
    return values if csr.edge_ids is None else values[csr.edge_ids]


def segment_softmax(logits: Tensor, segment: Tensor, num_segments: int) -> Tensor:
    """Softmax over the edges of each segment, for logits [E, H] and segment numbers [E].

    A segment whose logits are all minus infinity gets weights of zero, as if it had no edges.
    """
    index = segment.unsqueeze(-1).expand_as(logits)
    largest = logits.new_full((num_segments, logits.shape[1]), -torch.inf)
    largest = largest.scatter_reduce(0, index, logits.detach(), "amax")
    largest = largest.masked_fill(largest == -torch.inf, 0)
    weights = (logits - largest[segment]).exp()
    total = torch.zeros_like(largest).index_add(0, segment, weights)
    return weights / total.masked_fill(total == 0, 1)[segment]
