"""Blocks through `scaled_dot_product_attention`: complete, causal, or dense enough to mask.

Samples of equal size are one call on a view. Ragged batches are bucketed: one call a size, with
no padding. Other adjacencies pass their dense mask, each sample's own where the rule is known.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import Unpack

from graphformer.adjacency import CSR, Adjacency, Bucket, Causal, Complete
from graphformer.ops.common import EdgeOptions


def why_not(options: EdgeOptions) -> str | None:
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
    **options: Unpack[EdgeOptions],
) -> tuple[Tensor, None]:
    """logit_ij = scale * (q_i . k_j)."""
    refusal = why_not(options)
    if refusal:
        raise ValueError(f"backend='sdpa' {refusal}; choose another backend, or 'auto'")
    bias = options["bias"]
    if bias is not None and isinstance(adjacency, CSR) and adjacency.edge_ids is not None:
        bias = bias[adjacency.edge_ids]
    settings = {"scale": scale, "dropout_p": options["dropout"]}
    if len(adjacency.buckets) == 1:
        return _bucket(q, k, v, bias, adjacency.buckets[0], **settings), None
    outs = []
    for bucket in adjacency.buckets:
        edges = None if bias is None else bias[bucket.edges]
        rows = q[bucket.targets], k[bucket.sources], v[bucket.sources]
        outs.append(_bucket(*rows, edges, bucket, **settings))
    order = torch.cat([bucket.targets for bucket in adjacency.buckets])
    return torch.cat(outs).index_select(0, order.argsort()), None


def _bucket(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, bucket: Bucket, **settings: float
) -> Tensor:
    """Attention within samples of one size: q [b * m, H, D] -> [b * m, H, Dv]."""
    m, n = bucket.block.shape
    q = q.unflatten(0, (bucket.count, m)).transpose(1, 2)
    k = k.unflatten(0, (bucket.count, n)).transpose(1, 2)
    v = v.unflatten(0, (bucket.count, n)).transpose(1, 2)
    rule = _rule(bucket.block)
    if rule is not None and bias is None:
        out = _sdpa(q, k, v, is_causal=rule == "causal", **settings)
    else:
        if n == 0:  # a source that nobody may attend to, for kernels that need one
            k, v = F.pad(k, (0, 0, 0, 1)), F.pad(v, (0, 0, 0, 1))
        mask, empty = _mask(bucket, bias)
        out = _sdpa(q, k, v, attn_mask=mask, **settings).masked_fill(empty.unsqueeze(-1), 0)
    return out.transpose(1, 2).flatten(0, 1)


def _rule(block: Adjacency) -> Literal["complete", "causal"] | None:
    """What the kernel knows without a mask; its triangle is aligned at the start."""
    m, n = block.shape
    if isinstance(block, Complete) and n > 0:
        return "complete"
    return "causal" if isinstance(block, Causal) and m == n > 0 else None


def _mask(bucket: Bucket, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """The mask or the dense bias, and the targets without an edge, which see all and get zeros.

    The kernels disagree about rows that are masked altogether: zeros here, NaN there.
    """
    mask = bucket.mask
    if bias is None:
        mask = mask if mask.shape[1] else F.pad(mask, (0, 1))
        empty = ~mask.any(-1)
        return mask | empty.unsqueeze(-1), empty
    by_sample = bias.unflatten(0, (bucket.count, bucket.block.num_edges)).permute(0, 2, 1)
    dense = bias.new_full((*by_sample.shape[:2], *mask.shape), -torch.inf)
    dense[:, :, mask] = by_sample
    dense = dense if mask.shape[1] else F.pad(dense, (0, 1), value=-torch.inf)
    empty = (dense == -torch.inf).all(-1)
    return dense.masked_fill(empty.unsqueeze(-1), 0), empty


def _sdpa(q: Tensor, k: Tensor, v: Tensor, **settings: Any) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, enable_gqa=k.shape[1] != q.shape[1], **settings)
