"""Fused attention over CSR on CUDA: Triton kernels, one pass by target, one by source backward.

Memory is O(N H D + E): nothing of the size E x H x D is made, and E x H only for what is returned.
No atomics, so the same inputs and seed give the same bits. Triton loads on the first call.

Dropout is the counter-based splitmix64 mask that all backends share (`graphformer.ops.common`)
rather than Triton's Philox: so every backend drops the same weights for the same seed.
"""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import Unpack

from graphformer.adjacency import Adjacency
from graphformer.ops.common import EdgeOptions
from graphformer.ops.triton.operators import attend

Result = tuple[Tensor, Tensor | None]

__all__ = ["additive_attention", "attention", "edge_feature_attention", "gatv2_attention"]


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    adjacency: Adjacency,
    *,
    scale: float,
    **options: Unpack[EdgeOptions],
) -> Result:
    """logit_ij = scale * (q_i . k_j)."""
    out, _, weights = _attend(q, k, v, adjacency, rectified=False, scale=scale, **options)
    return out, weights


def additive_attention(
    target_score: Tensor,
    source_score: Tensor,
    v: Tensor,
    adjacency: Adjacency,
    *,
    negative_slope: float,
    edge_score: Tensor | None = None,
    **options: Unpack[EdgeOptions],
) -> Result:
    """logit_ij = leaky_relu(target_score_i + source_score_j + edge_score_ij).

    These are the scores of `gatv2_attention` at width 1 with a weight of 1.
    """
    out, _, weights = _attend(
        target_score.unsqueeze(2), source_score.unsqueeze(2), v, adjacency,
        rectified=True, edge=None if edge_score is None else edge_score.unsqueeze(2),
        slope=negative_slope, **options,
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
    **options: Unpack[EdgeOptions],
) -> Result:
    """logit_ij = weight . leaky_relu(q_i + k_j + edge_key_ij)."""
    out, _, weights = _attend(
        q, k, v, adjacency,
        rectified=True, vector=weight, edge=edge_key, slope=negative_slope, **options,
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
    **options: Unpack[EdgeOptions],
) -> Result:
    """Attention with keys k_j + key_map e_ij and values v_j + value_map e_ij.

    For edge_attr [E, de] in edge order, key_map [H, D, de] and value_map [H, Dv, de]. The mapped
    features are never made: q.(k + W e) = q.k + (W^T q).e, sum a (v + W e) = sum a v + W sum a e.
    """
    u = torch.einsum("mhd,hde->mhe", q, key_map)
    out, z, weights = _attend(
        q, k, v, adjacency, rectified=False, u=u, edge=edge_attr, scale=scale, **options
    )
    return out + torch.einsum("mhe,hde->mhd", z, value_map.to(z.dtype)).to(out.dtype), weights


def _attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    adjacency: Adjacency,
    *,
    rectified: bool,
    vector: Tensor | None = None,
    u: Tensor | None = None,
    edge: Tensor | None = None,
    scale: float = 1.0,
    slope: float = 0.0,
    bias: Tensor | None,
    edge_weight: Tensor | None,
    dropout: float,
    seed: Tensor | None,
    return_weights: bool,
) -> tuple[Tensor, Tensor, Tensor | None]:
    csr = adjacency.to_csr()
    inputs = (q, k, v, vector, u, edge, bias, edge_weight)
    learning = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs)
    # A trace may have made this CSR, and then cannot make more of it; the backward pass does.
    ready = not torch.compiler.is_compiling() or "by_source" in csr.__dict__
    by_source = csr.by_source if learning and ready else (None, None, None)
    out, z, _, weights = attend(
        *inputs, csr.indptr, csr.indices, csr.edge_ids, *by_source, seed,
        rectified, scale, slope, dropout, return_weights,
    )  # fmt: skip
    return out, z, weights.to(v.dtype) if return_weights else None
