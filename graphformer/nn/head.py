"""Output heads: pooling of the nodes of each sample, and a linear map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graphformer.deprecated import renamed_value
from graphformer.patterns import lengths as sample_lengths

if TYPE_CHECKING:
    from graphformer.batch_type import BatchLike
    from graphformer.patterns.fields import Layout

Pool = Literal["mean", "sum", "max", "cls", "last", "mean_sqrt", "weighted_mean", "first"]
"""How nodes are pooled: "cls" is the first node of each sample; "first" is its old name."""


def check_pool(how: str) -> Pool:
    """Return the name of a pooling, today's name for an old one.

    Raises:
        ValueError: when the name is unknown.
    """
    how = renamed_value("pool", how, {"first": "cls", "class": "cls"})
    if how not in get_args(Pool):
        raise ValueError(f"pool: got {how!r}, expected one of {', '.join(get_args(Pool)[:-1])}")
    return cast(Pool, how)


def pool(x: Tensor, lengths: tuple[int, ...], how: Pool) -> Tensor:
    """Reduce the nodes of each sample, x [N, C] -> [B, C]; an empty sample gives zeros.

    Args:
        x: nodes of all samples, packed end to end.
        lengths: number of nodes of each sample, B ints.
        how: "mean", "sum" or "max" over nodes; or the first ("cls") or the "last" node. "mean_sqrt"
            divides the sum by the root of the number of nodes, and "weighted_mean" weights the
            nodes by their position, from 1.

    Raises:
        ValueError: when `how` is unknown, when the lengths do not add up to N, or when a sample is
            empty and "cls" or "last" is asked for.
    """
    how = check_pool(how)
    count = x.shape[0]  # `len` would make a number of a symbol
    if sum(lengths) != count:
        raise ValueError(f"lengths: got a sum of {sum(lengths)}, expected the {count} nodes of x")
    # A single length may be a symbol of torch.export, which is not hashable.
    is_single = len(lengths) == 1
    if how in ("mean", "sum", "max"):
        if (is_single or len(set(lengths)) == 1) and lengths[0] > 0:  # a view [B, n, C]
            samples = x.unflatten(0, (len(lengths), lengths[0]))
            return samples.amax(1) if how == "max" else getattr(samples, how)(1)
    elif how in ("cls", "last"):
        if 0 in lengths:
            raise ValueError(f"lengths: got an empty sample, expected none for pool={how!r}")
        if is_single:
            return x[-1:] if how == "last" else x[:1]
    sizes = torch.tensor(lengths, dtype=torch.int64, device=x.device)
    if how in ("cls", "last"):
        ends = sizes.cumsum(0)
        return x[ends - 1 if how == "last" else ends - sizes]
    sample = torch.arange(len(lengths), device=x.device).repeat_interleave(
        sizes, output_size=x.shape[0]
    )
    if how == "max":
        index = sample.unsqueeze(1).expand_as(x)
        zeros = x.new_zeros(len(lengths), x.shape[1])
        return zeros.scatter_reduce(0, index, x, "amax", include_self=False)
    if how == "weighted_mean":
        starts = sizes.cumsum(0) - sizes
        x = x * (torch.arange(1, len(x) + 1, device=x.device) - starts[sample]).unsqueeze(1)
    total = x.new_zeros(len(lengths), x.shape[1]).index_add(0, sample, x)
    counts = sizes.clamp(min=1)
    divisors = {
        "mean": counts,
        "mean_sqrt": counts.to(x.dtype).sqrt(),
        "weighted_mean": counts * (counts + 1) // 2,
    }
    return total if how == "sum" else total / divisors[how].unsqueeze(1)


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
        pool: how the nodes of a sample are pooled; the results of several ways are concatenated.
        normalize: whether each vector is scaled to unit length.
        transform: applied to the vectors before, [B, C] -> [B, C'].

    Raises:
        ValueError: when `pool` is unknown.
    """

    def __init__(
        self,
        pool: Pool | Sequence[Pool] = "mean",
        *,
        normalize: bool = False,
        transform: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.pools = [check_pool(how) for how in ([pool] if isinstance(pool, str) else pool)]
        self.normalize, self.transform = normalize, transform

    @property
    def pool(self) -> Pool | tuple[Pool, ...]:
        """How the nodes of a sample are pooled."""
        return self.pools[0] if len(self.pools) == 1 else tuple(self.pools)

    def forward(self, x: Tensor, batch: BatchLike | Layout) -> Tensor:
        """Return [B, C] of x [N, C]; of the batch, only lengths are read."""
        sizes = sample_lengths(batch)
        parts = [pool(x, sizes, how) for how in self.pools]
        x = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
        x = x if self.transform is None else self.transform(x)
        return F.normalize(x, dim=-1) if self.normalize else x
