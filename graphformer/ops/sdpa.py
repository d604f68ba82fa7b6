"""Attention by `scaled_dot_product_attention`: complete, causal, or with a dense mask.

Samples of equal size are one call on a view. Ragged batches take one call per size, without
padding. Other adjacencies pass a dense mask: one per sample for rules, one for all nodes otherwise.
"""

from __future__ import annotations

from typing import TypedDict

import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import Unpack

from graphformer.adjacency import CSR, Adjacency, Bucket, HeadEdges
from graphformer.ops.common import AttentionOptions, finite_nodes
from graphformer.ops.offset_bias import OffsetBias

APPLIES_OFFSET_BIAS = True
HAS_CUSTOM_OPERATORS = False
SUPPORTS_HEAD_EDGES = True


class _Settings(TypedDict):
    scale: float
    dropout_p: float


def unsupported_reason(options: AttentionOptions) -> str | None:
    """Return why this backend cannot run a call, as a clause after "which"; None if it can."""
    if options["edge_weight"] is not None:
        return "cannot multiply logits by edge_weight"
    if options["return_weights"]:
        return "cannot return weights"
    return None


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    adjacency: Adjacency,
    *,
    scale: float,
    offset_bias: OffsetBias | None = None,
    **options: Unpack[AttentionOptions],
) -> tuple[Tensor, None]:
    """logit_ij = scale * (q_i . k_j) + offset_bias_ij.

    Raises:
        ValueError: when the call has an edge weight or returns weights.
    """
    reason = unsupported_reason(options)
    if reason:
        raise ValueError(f"backend: got 'sdpa', which {reason}; choose another, or 'auto'")
    bias = options["bias"]
    if bias is not None and isinstance(adjacency, CSR) and adjacency.edge_ids is not None:
        bias = bias[adjacency.edge_ids]
    settings = _Settings(scale=scale, dropout_p=options["dropout"])
    if isinstance(adjacency, HeadEdges):
        # Samples depend on the edges, by which compiled code cannot branch.
        masked = bias is None and adjacency.is_coalesced
        if masked and not torch.compiler.is_compiling() and adjacency.samples:
            return _attend_heads(q, k, v, adjacency, **settings), None
        bias = adjacency.head_bias(options["bias"], q.shape[1], q.dtype)
        bias = bias if adjacency.edge_ids is None else bias[adjacency.edge_ids]
    buckets = adjacency.buckets
    if isinstance(adjacency, CSR):  # one product over all samples, which are not known
        (q, bad_queries), (k, bad_keys), (v, bad_values) = map(finite_nodes, (q, k, v))
        out = _attend_bucket(q, k, v, bias, offset_bias, adjacency, 0, **settings)
        invalid = bad_queries.unsqueeze(1) | bad_keys | bad_values  # [M, N]
        reached = (adjacency.dense_mask & invalid).any(1)
        return out.masked_fill(reached[:, None, None], torch.nan).to(v.dtype), None
    if len(buckets) == 1:
        out = _attend_bucket(q, k, v, bias, offset_bias, adjacency, 0, **settings)
        return out.to(v.dtype), None  # autocast returns its own dtype
    outs = []
    for index, bucket in enumerate(buckets):
        edge_bias = None if bias is None else bias[bucket.edges]
        qkv = q[bucket.targets], k[bucket.sources], v[bucket.sources]
        outs.append(_attend_bucket(*qkv, edge_bias, offset_bias, adjacency, index, **settings))
    order = torch.cat([bucket.targets for bucket in buckets if bucket.targets is not None])
    return torch.cat(outs).index_select(0, order.argsort()).to(v.dtype), None


def _attend_heads(
    q: Tensor, k: Tensor, v: Tensor, adjacency: HeadEdges, **settings: Unpack[_Settings]
) -> Tensor:
    """Attention with a dense mask for each sample and head."""
    outs, groups = [], adjacency.dense_samples
    grouped = bool(k.shape[1] != q.shape[1])
    for rows, number, mask, empty in groups:
        x = (q, k, v) if rows is None else (q[rows], k[rows], v[rows])
        q_s, k_s, v_s = (y.unflatten(0, (number, -1)).transpose(1, 2) for y in x)
        out = F.scaled_dot_product_attention(
            q_s, k_s, v_s, attn_mask=mask.to(q.dtype), enable_gqa=grouped, **settings
        )
        out = out if empty is None else out.masked_fill(empty, 0)
        outs.append(out.transpose(1, 2).flatten(0, 1))
    if len(groups) == 1:
        return outs[0].to(v.dtype)
    order = torch.cat([group.rows for group in groups if group.rows is not None])
    return torch.cat(outs).index_select(0, order.argsort()).to(v.dtype)


def _attend_bucket(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    offset_bias: OffsetBias | None,
    adjacency: Adjacency,
    index: int,
    **settings: Unpack[_Settings],
) -> Tensor:
    """Attention within the samples of one size: q [b * m, H, D] -> [b * m, H, Dv]."""
    bucket = adjacency.buckets[index]
    m, n = bucket.shape
    q = q.unflatten(0, (bucket.count, m)).transpose(1, 2)
    k = k.unflatten(0, (bucket.count, n)).transpose(1, 2)
    v = v.unflatten(0, (bucket.count, n)).transpose(1, 2)
    dense_bias = _dense_bias(bias, offset_bias, adjacency, index, q.dtype)
    grouped = bool(k.shape[1] != q.shape[1])  # shapes are tensors in torch.jit.trace
    if dense_bias is None and _is_maskless(bucket):
        out = F.scaled_dot_product_attention(
            q, k, v, is_causal=bucket.kernel == "causal", enable_gqa=grouped, **settings
        )
    else:
        if n == 0:  # kernels need a source; this one is masked
            k, v = F.pad(k, (0, 0, 0, 1)), F.pad(v, (0, 0, 0, 1))
        mask, empty = _mask(adjacency.bucket_mask(index), bucket, dense_bias)
        out = F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, enable_gqa=grouped, **settings
        ).masked_fill(empty.unsqueeze(-1), 0)
    return out.transpose(1, 2).flatten(0, 1)


def _is_maskless(bucket: Bucket) -> bool:
    """Whether the kernel needs no mask; it aligns causal masks at the start, we at the end."""
    m, n = bucket.shape
    return n > 0 and (bucket.kernel == "complete" or (bucket.kernel == "causal" and m == n))


def _dense_bias(
    bias: Tensor | None,
    offset_bias: OffsetBias | None,
    adjacency: Adjacency,
    index: int,
    dtype: torch.dtype,
) -> Tensor | None:
    """The bias of a bucket as [count or 1, H, m, n], -inf without an edge; None without a bias."""
    bucket = adjacency.buckets[index]
    if offset_bias is not None:
        mask = adjacency.bucket_mask(index)
        dense = offset_bias.on_block(adjacency, bucket).to(dtype)
        return dense if bucket.kernel == "complete" else dense.masked_fill(~mask, -torch.inf)
    if bias is None:
        return None
    by_sample = bias.unflatten(0, (bucket.count, bucket.num_edges)).permute(0, 2, 1)
    dense = bias.new_full((*by_sample.shape[:2], *bucket.shape), -torch.inf)
    dense[:, :, adjacency.bucket_mask(index)] = by_sample
    return dense


def _mask(mask: Tensor, bucket: Bucket, dense: Tensor | None) -> tuple[Tensor, Tensor]:
    """The mask or dense bias [..., m, n], and which targets have no edge, [..., m].

    Kernels return zeros or NaN for rows that are masked completely. So these rows are unmasked
    here, and set to zero afterwards.
    """
    if dense is None:
        mask = mask if bucket.shape[1] else F.pad(mask, (0, 1))
        empty = ~mask.any(-1)
        return mask | empty.unsqueeze(-1), empty
    dense = dense if bucket.shape[1] else F.pad(dense, (0, 1), value=-torch.inf)
    empty = (dense == -torch.inf).all(-1)
    return dense.masked_fill(empty.unsqueeze(-1), 0), empty
