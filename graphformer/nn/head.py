"""From nodes to answers: pooling over samples, and the last linear map."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graphformer.patterns import lengths

Pool = Literal["mean", "sum", "max", "first", "last"]


def pool(x: Tensor, lengths: tuple[int, ...], how: Pool) -> Tensor:
    """Reduce the nodes of each sample, x [N, C] -> [B, C]; an empty sample gives zeros.

    Args:
        x: the nodes of all samples, packed end to end.
        lengths: the number of nodes of each sample.
        how: "mean", "sum", "max", or "first" or "last" for that node.

    Raises ValueError for an unknown `how`, for lengths that do not add up to N, and for "first" or
    "last" of an empty sample.
    """
    if sum(lengths) != len(x):
        raise ValueError(f"lengths must add up to the {len(x)} nodes of x, got {sum(lengths)}")
    sizes = torch.tensor(lengths, dtype=torch.int64, device=x.device)
    if how in ("first", "last"):
        if 0 in lengths:
            raise ValueError(f"pooling by the {how} node needs a node in every sample, got none")
        ends = sizes.cumsum(0)
        return x[ends - 1 if how == "last" else ends - sizes]
    if how not in ("mean", "sum", "max"):
        raise ValueError(f"pool must be 'mean', 'sum', 'max', 'first' or 'last', got {how!r}")
    if len(set(lengths)) == 1 and lengths[0] > 0:
        samples = x.unflatten(0, (len(lengths), lengths[0]))
        return samples.amax(1) if how == "max" else getattr(samples, how)(1)
    sample = torch.arange(len(lengths), device=x.device).repeat_interleave(
        sizes, output_size=len(x)
    )
    if how == "max":
        index = sample.unsqueeze(1).expand_as(x)
        zeros = x.new_zeros(len(lengths), x.shape[1])
        return zeros.scatter_reduce(0, index, x, "amax", include_self=False)
    total = x.new_zeros(len(lengths), x.shape[1]).index_add(0, sample, x)
    return total / sizes.clamp(min=1).unsqueeze(1) if how == "mean" else total


class Head(nn.Module):
    """A linear map of each node, or of each sample's pooled nodes.

    Args:
        dim: width C.
        out_dim: number of classes or values K.
        pool: how nodes become samples; None keeps one answer a node.
        bias: whether the map has one.
        transform: comes before the map, [..., C] -> [..., C], as in BERT's heads.
    """

    def __init__(
        self,
        dim: int,
        out_dim: int,
        *,
        pool: Pool | None = None,
        bias: bool = True,
        transform: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.pool, self.transform = pool, transform
        self.linear = nn.Linear(dim, out_dim, bias=bias)

    def forward(self, x: Tensor, batch: Any) -> Tensor:
        """x [N, C] of a batch -> [N, K], or [B, K] if pooled."""
        if self.pool is not None:
            x = pool(x, lengths(batch), self.pool)
        x = x if self.transform is None else self.transform(x)
        return self.linear(x)


class Pooling(nn.Module):
    """A vector for each sample: its pooled nodes.

    Args:
        pool: how nodes become samples.
        normalize: whether each vector is scaled to length one.
    """

    def __init__(self, pool: Pool = "mean", *, normalize: bool = False) -> None:
        super().__init__()
        self.pool: Pool = pool
        self.normalize = normalize

    def forward(self, x: Tensor, batch: Any) -> Tensor:
        """x [N, C] of a batch -> [B, C]."""
        x = pool(x, lengths(batch), self.pool)
        return F.normalize(x, dim=-1) if self.normalize else x
