"""The oracle: attention as its definition reads. Every other backend is tested against it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import Unpack

from graphformer.adjacency import CSR, Adjacency
from graphformer.ops.common import AttentionOptions, dropout_mask, per_head, upcast

Result = tuple[Tensor, Tensor | None]


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
    wide_q, wide_k = upcast(q, per_head(k, q.shape[1]))
    logits = scale * (wide_q[csr.target] * wide_k[csr.indices]).sum(-1)
    return _softmax_sum(logits, v, csr, **options)


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
    target_score, source_score = upcast(target_score, source_score)
    score = target_score[csr.target] + source_score[csr.indices]
    if edge_score is not None:
        score = score + edge_score[_slot_order(csr)]
    return _softmax_sum(F.leaky_relu(score, negative_slope), v, csr, **options)


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
    q, k, weight = upcast(q, per_head(k, q.shape[1]), weight)
    hidden = q[csr.target] + k[csr.indices]
    if edge_key is not None:
        hidden = hidden + edge_key[_slot_order(csr)]
    logits = (weight * F.leaky_relu(hidden, negative_slope)).sum(-1)
    return _softmax_sum(logits, v, csr, **options)


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
    e, key_map, value_map = upcast(edge_attr[_slot_order(csr)], key_map, value_map)
    q, k, wide_v = upcast(q, per_head(k, q.shape[1]), per_head(v, q.shape[1]))
    keys = k[csr.indices] + torch.einsum("hde,ne->nhd", key_map, e)
    values = wide_v[csr.indices] + torch.einsum("hde,ne->nhd", value_map, e)
    logits = scale * (q[csr.target] * keys).sum(-1)
    out, weights = _softmax_sum(logits, values, csr, **options, spread=True)
    return out.to(v.dtype), None if weights is None else weights.to(v.dtype)


def _softmax_sum(
    logits: Tensor,
    v: Tensor,
    csr: CSR,
    *,
    bias: Tensor | None,
    edge_weight: Tensor | None,
    dropout: float,
    seed: Tensor | None,
    return_weights: bool,
    spread: bool = False,
) -> Result:
    """y_i = sum_j softmax_j(logit_ij) v_j; logits [E, H] and all on the edges in slot order.

    With `spread`, v is [E, H, Dv] with a value for each slot.
    """
    order = _slot_order(csr)
    if edge_weight is not None:
        logits = logits * edge_weight[order]
    if bias is not None:
        logits = logits + bias[order]
    weights = segment_softmax(logits, csr.target, csr.shape[0])
    if seed is not None:
        weights = (
            weights
            * dropout_mask(weights.shape[0], weights.shape[1], dropout, seed)
            / (1 - dropout)
        )
    (wide_v,) = upcast(per_head(v, weights.shape[1]))
    out = wide_v.new_zeros(csr.shape[0], *wide_v.shape[1:])
    values = wide_v if spread else wide_v[csr.indices]
    out = out.index_add(0, csr.target, weights.unsqueeze(-1) * values)
    return out.to(v.dtype), weights[csr.slots].to(v.dtype) if return_weights else None


def _slot_order(csr: CSR) -> Tensor | slice:
    """What turns edge-aligned values from the caller's order into slot order."""
    return slice(None) if csr.edge_ids is None else csr.edge_ids


def segment_softmax(logits: Tensor, segment: Tensor, num_segments: int) -> Tensor:
    """Softmax over the edges of each segment, for logits [E, H] and segment numbers [E].

    A segment whose logits are all minus infinity has no edges in effect: its weights are zero.
    """
    index = segment.unsqueeze(-1).expand_as(logits)
    largest = logits.new_full((num_segments, logits.shape[1]), -torch.inf)
    largest = largest.scatter_reduce(0, index, logits.detach(), "amax")
    largest = largest.masked_fill(largest == -torch.inf, 0)
    weights = (logits - largest[segment]).exp()
    total = torch.zeros_like(largest).index_add(0, segment, weights)
    return weights / total.masked_fill(total == 0, 1)[segment]
