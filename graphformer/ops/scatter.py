"""Attention by gather, segment softmax and scatter in plain torch, for all devices and dtypes.

Segment reductions use torch-scatter if it is installed, torch's own functions otherwise.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import Unpack

from graphformer.adjacency import CSR, Adjacency
from graphformer.ops.common import AttentionOptions, Result, drop_weights, per_head, upcast

APPLIES_OFFSET_BIAS = False
HAS_CUSTOM_OPERATORS = False
SUPPORTS_HEAD_EDGES = False
_TORCH_SCATTER = find_spec("torch_scatter") is not None


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
    queries = (q * scale).index_select(0, csr.target)
    keys = per_head(k.index_select(0, csr.indices), q.shape[1])
    return _attend(torch.linalg.vecdot(*upcast(queries, keys)), v, csr, **options)


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
    left, right = upcast(target_score, source_score)
    score = left.index_select(0, csr.target) + right.index_select(0, csr.indices)
    if edge_score is not None:
        score = score + _by_slot(edge_score, csr)
    return _attend(F.leaky_relu(score, negative_slope), v, csr, **options)


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
    q, k, weight = upcast(q, k, weight)
    keys = per_head(k.index_select(0, csr.indices), q.shape[1])
    if edge_key is not None:
        keys = keys + _by_slot(edge_key, csr)
    hidden = F.leaky_relu(q.index_select(0, csr.target) + keys, negative_slope)
    return _attend(torch.linalg.vecdot(hidden, weight), v, csr, **options)


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
    """logit_ij = scale * (q_i . k_j + (key_map^T q_i) . e_ij); values as in the reference.

    The mapped features [E, H, D] are not computed: sum a (v + W e) = sum a v + W sum a e.
    """
    csr = adjacency.to_csr()
    q, k, e = upcast(q * scale, k, _by_slot(edge_attr, csr))
    key_map, value_map = upcast(key_map, value_map)
    keys = per_head(k.index_select(0, csr.indices), q.shape[1])
    logits = torch.linalg.vecdot(q.index_select(0, csr.target), keys)
    feature_queries = torch.einsum("mhd,hde->mhe", q, key_map).index_select(0, csr.target)
    logits = logits + torch.einsum("nhe,ne->nh", feature_queries, e)
    weights = _softmax(logits, csr, **options)
    out = _weighted_sum(weights, v, csr)
    features = _reduce(weights.unsqueeze(-1) * e.unsqueeze(1), csr, "sum")
    out = out + torch.einsum("mhe,hde->mhd", features, value_map).to(v.dtype)
    return out, _by_edge(weights, v, csr) if options["return_weights"] else None


def _attend(logits: Tensor, v: Tensor, csr: CSR, **options: Unpack[AttentionOptions]) -> Result:
    weights = _softmax(logits, csr, **options)
    out = _weighted_sum(weights, v, csr)
    return out, _by_edge(weights, v, csr) if options["return_weights"] else None


def _softmax(
    logits: Tensor,
    csr: CSR,
    *,
    bias: Tensor | None,
    edge_weight: Tensor | None,
    dropout: float,
    seed: Tensor | None,
    return_weights: bool,
) -> Tensor:
    """The attention weights [E, H] by slot, after dropout."""
    if edge_weight is not None:
        logits = logits * _by_slot(edge_weight, csr)
    if bias is not None:
        logits = logits + _by_slot(bias, csr)
    largest = _reduce(logits.detach(), csr, "max")
    largest = largest.masked_fill(largest == -torch.inf, 0)
    weights = (logits - _per_slot(largest, csr)).exp()
    total = _reduce(weights, csr, "sum")
    weights = weights / _per_slot(total.masked_fill(total == 0, 1), csr)
    return drop_weights(weights, dropout, seed)


def _weighted_sum(weights: Tensor, v: Tensor, csr: CSR) -> Tensor:
    (values,) = upcast(per_head(v.index_select(0, csr.indices), weights.shape[1]))
    return _reduce(values * weights.unsqueeze(-1), csr, "sum").to(v.dtype)


def _by_edge(weights: Tensor, v: Tensor, csr: CSR) -> Tensor:
    """Weights by slot in the caller's edge order, in the dtype of the values."""
    return weights.index_select(0, csr.slots).to(v.dtype)


def _by_slot(values: Tensor, csr: CSR) -> Tensor:
    """Edge-aligned values, given in the caller's order, in the order of the CSR's slots."""
    return values if csr.edge_ids is None else values.index_select(0, csr.edge_ids)


def _has_library_form(csr: CSR) -> bool:
    """Whether torch-scatter computes reductions: not in programs, nor for edges in any order."""
    is_sorted = csr.indptr.shape[0] == csr.shape[0] + 1
    return _TORCH_SCATTER and is_sorted and not torch.compiler.is_exporting()


def _reduce(x: Tensor, csr: CSR, how: Literal["sum", "max"]) -> Tensor:
    """Reduce the slots [E, ...] of each target, to [M, ...]; 0 for a target without slots."""
    if _has_library_form(csr):
        import torch_scatter

        return torch_scatter.segment_csr(x, csr.indptr.long(), reduce=how)
    out = x.new_zeros(csr.shape[0], *x.shape[1:])
    if how == "sum":
        return out.index_add(0, csr.target, x)
    index = csr.target.view(-1, *[1] * (x.ndim - 1)).expand_as(x)
    return out.scatter_reduce(0, index, x, "amax", include_self=False)


def _per_slot(x: Tensor, csr: CSR) -> Tensor:
    """The value of each slot's target: [M, ...] to [E, ...]."""
    if _has_library_form(csr):
        import torch_scatter

        return torch_scatter.gather_csr(x, csr.indptr.long())
    return x.index_select(0, csr.target)
