"""Output heads: pooling of the nodes of each sample, and a linear map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graphformer.deprecated import renamed_value
from graphformer.patterns import lengths as sample_lengths

if TYPE_CHECKING:
    from graphformer.batch_type import BatchLike
    from graphformer.patterns.fields import Layout

Pool = Literal["mean", "sum", "max", "cls", "last", "first"]
"""How nodes are pooled: "cls" is the first node of each sample; "first" is its old name."""


def check_pool(how: str) -> Pool:
    """Return the name of a pooling, today's name for an old one.

    Raises:
        ValueError: when the name is unknown.
    """
    how = renamed_value("pool", how, {"first": "cls", "class": "cls"})
    if how not in get_args(Pool):
        raise ValueError(f"pool: got {how!r}, expected 'mean', 'sum', 'max', 'cls' or 'last'")
    return cast(Pool, how)


def pool(x: Tensor, lengths: tuple[int, ...], how: Pool) -> Tensor:
    """Reduce the nodes of each sample, x [N, C] -> [B, C]; an empty sample gives zeros.

    Args:
        x: nodes of all samples, packed end to end.
        lengths: number of nodes of each sample, B ints.
        how: "mean", "sum" or "max" over nodes; or the first ("cls") or the "last" node.

    Raises:
        ValueError: when `how` is unknown, when the lengths do not add up to N, or when a sample is
            empty and "cls" or "last" is asked for.
    """
    how = check_pool(how)
    if sum(lengths) != len(x):
        raise ValueError(f"lengths: got a sum of {sum(lengths)}, expected the {len(x)} nodes of x")
    sizes = torch.tensor(lengths, dtype=torch.int64, device=x.device)
    if how in ("cls", "last"):
        if 0 in lengths:
            raise ValueError(f"lengths: got an empty sample, expected none for pool={how!r}")
        ends = sizes.cumsum(0)
        return x[ends - 1 if how == "last" else ends - sizes]
    if len(set(lengths)) == 1 and lengths[0] > 0:  # equal lengths: a view [B, n, C]
        samples = x.unflatten(0, (len(lengths), lengths[0]))
        return samples.amax(1) if how == "max" else getattr(samples, how)(1)
    sample = torch.arange(len(lengths), device=x.device).repeat_interleave(
        sizes, output_size=x.shape[0]
    )
    if how == "max":
        index = sample.unsqueeze(1).expand_as(x)
        zeros = x.new_zeros(len(lengths), x.shape[1])
        return zeros.scatter_reduce(0, index, x, "amax", include_self=False)
    total = x.new_zeros(len(lengths), x.shape[1]).index_add(0, sample, x)
    return total / sizes.clamp(min=1).unsqueeze(1) if how == "mean" else total


class Head(nn.Module):
    """A linear map of each node, or of the pooled nodes of each sample.

    Args:
        dim: width C.
        out_dim: number of classes or values K.
        pool: how the nodes of a sample are pooled; None for one output per node.
        bias: whether the map has a bias.
        transform: applied before the map, [..., C] -> [..., C], as in BERT's heads.
        softcap: bounds the outputs y to c tanh(y / c), as in Gemma 2; None for no bound.

    Raises:
        ValueError: when `pool` is unknown.
    """

    def __init__(
        self,
        dim: int,
        out_dim: int,
        *,
        pool: Pool | None = None,
        bias: bool = True,
        transform: nn.Module | None = None,
        softcap: float | None = None,
    ) -> None:
        super().__init__()
        self.softcap = softcap
        self.pool = None if pool is None else check_pool(pool)
        self.transform = transform
        self.linear = nn.Linear(dim, out_dim, bias=bias)

    def forward(self, x: Tensor, batch: BatchLike | Layout) -> Tensor:
        """Return [N, K] of x [N, C], or [B, K] if pooled; of the batch, only lengths are read."""
        if self.pool is not None:
            x = pool(x, sample_lengths(batch), self.pool)
        x = self.linear(x if self.transform is None else self.transform(x))
        return x if self.softcap is None else self.softcap * (x / self.softcap).tanh()


class Pooling(nn.Module):
    """A vector for each sample: its pooled nodes.

    Args:
        pool: how the nodes of a sample are pooled.
        normalize: whether each vector is scaled to unit length.

    Raises:
        ValueError: when `pool` is unknown.
    """

    def __init__(self, pool: Pool = "mean", *, normalize: bool = False) -> None:
        super().__init__()
        self.pool = check_pool(pool)
        self.normalize = normalize

    def forward(self, x: Tensor, batch: BatchLike | Layout) -> Tensor:
        """Return [B, C] of x [N, C]; of the batch, only lengths are read."""
        x = pool(x, sample_lengths(batch), self.pool)
        return F.normalize(x, dim=-1) if self.normalize else x
