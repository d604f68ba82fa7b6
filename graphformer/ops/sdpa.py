"""Blocks through `scaled_dot_product_attention`: complete, causal, or dense enough to mask.

Samples of equal size are one call on a view. Ragged batches are bucketed: one call a size, with
no padding. Other adjacencies pass their dense mask, each sample's own where the rule is known.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import Unpack

from graphformer.adjacency import CSR, Adjacency, Bucket
from graphformer.ops.common import AttentionOptions
from graphformer.ops.offset_bias import OffsetBias


def unsupported_reason(options: AttentionOptions) -> str | None:
    """Say what this backend cannot do of what is asked; None if it can."""
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
    rule: OffsetBias | None = None,
    **options: Unpack[AttentionOptions],
) -> tuple[Tensor, None]:
    """logit_ij = scale * (q_i . k_j), plus the bias of the rule."""
    refusal = unsupported_reason(options)
    if refusal:
        raise ValueError(f"backend='sdpa' {refusal}; choose another backend, or 'auto'")
    bias = options["bias"]
    if bias is not None and isinstance(adjacency, CSR) and adjacency.edge_ids is not None:
        bias = bias[adjacency.edge_ids]
    settings: dict[str, Any] = {"scale": scale, "dropout_p": options["dropout"]}
    buckets = adjacency.buckets
    if len(buckets) == 1:
        return _bucket(q, k, v, bias, rule, adjacency, 0, **settings), None
    outs = []
    for number, bucket in enumerate(buckets):
        edges = None if bias is None else bias[bucket.edges]
        rows = q[bucket.targets], k[bucket.sources], v[bucket.sources]
        outs.append(_bucket(*rows, edges, rule, adjacency, number, **settings))
    order = torch.cat([bucket.targets for bucket in buckets if bucket.targets is not None])
    return torch.cat(outs).index_select(0, order.argsort()), None


def _bucket(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    rule: OffsetBias | None,
    adjacency: Adjacency,
    number: int,
    **settings: float,
) -> Tensor:
    """Attention within samples of one size: q [b * m, H, D] -> [b * m, H, Dv]."""
    bucket = adjacency.buckets[number]
    m, n = bucket.shape
    q = q.unflatten(0, (bucket.count, m)).transpose(1, 2)
    k = k.unflatten(0, (bucket.count, n)).transpose(1, 2)
    v = v.unflatten(0, (bucket.count, n)).transpose(1, 2)
    dense = _dense(bias, rule, adjacency, number, q.dtype)
    if dense is None and _maskless(bucket):
        out = _sdpa(q, k, v, is_causal=bucket.kernel == "causal", **settings)
    else:
        if n == 0:  # a source that nobody may attend to, for kernels that need one
            k, v = F.pad(k, (0, 0, 0, 1)), F.pad(v, (0, 0, 0, 1))
        mask, empty = _mask(adjacency.bucket_mask(number), bucket, dense)
        out = _sdpa(q, k, v, attn_mask=mask, **settings).masked_fill(empty.unsqueeze(-1), 0)
    return out.transpose(1, 2).flatten(0, 1)


def _maskless(bucket: Bucket) -> bool:
    """Whether the kernel knows the rule without a mask; its triangle is aligned at the start."""
    m, n = bucket.shape
    return n > 0 and (bucket.kernel == "complete" or (bucket.kernel == "causal" and m == n))


def _dense(
    bias: Tensor | None,
    rule: OffsetBias | None,
    adjacency: Adjacency,
    number: int,
    dtype: torch.dtype,
) -> Tensor | None:
    """The biases of a bucket's samples at their places, [count or 1, H, m, n]; None without one."""
    bucket = adjacency.buckets[number]
    if rule is not None:
        mask = adjacency.bucket_mask(number)
        dense = rule.on_block(adjacency, bucket).to(dtype)
        return dense if bucket.kernel == "complete" else dense.masked_fill(~mask, -torch.inf)
    if bias is None:
        return None
    by_sample = bias.unflatten(0, (bucket.count, bucket.num_edges)).permute(0, 2, 1)
    dense = bias.new_full((*by_sample.shape[:2], *bucket.shape), -torch.inf)
    dense[:, :, adjacency.bucket_mask(number)] = by_sample
    return dense


def _mask(mask: Tensor, bucket: Bucket, dense: Tensor | None) -> tuple[Tensor, Tensor]:
    """The mask or the dense bias, and the targets without an edge, which see all and get zeros.

    The kernels disagree about rows that are masked altogether: zeros here, NaN there.
    """
    if dense is None:
        mask = mask if bucket.shape[1] else F.pad(mask, (0, 1))
        empty = ~mask.any(-1)
        return mask | empty.unsqueeze(-1), empty
    dense = dense if bucket.shape[1] else F.pad(dense, (0, 1), value=-torch.inf)
    empty = (dense == -torch.inf).all(-1)
    return dense.masked_fill(empty.unsqueeze(-1), 0), empty


def _sdpa(q: Tensor, k: Tensor, v: Tensor, **settings: Any) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, enable_gqa=k.shape[1] != q.shape[1], **settings)
