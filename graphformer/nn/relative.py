"""Relative positions as a bias on attention logits: ALiBi and T5's."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from graphformer.adjacency import Adjacency
from graphformer.nn.options import LayerOptions
from graphformer.ops import OffsetBias
from graphformer.ops.offset_bias import places


class ALiBi(nn.Module):
    """A bias that falls with distance, at its own slope for each head: -slope_h |j - i|.

    The slopes of H = 2^n heads are 2^(-8 h / H), h from 1 to H; for another H those of the power
    of two below it, then every other one of the next. There is nothing to learn.

    Args:
        num_heads: H.

    Source: Press et al., 2022, "Train short, test long", section 3.
    """

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.slopes = _slopes(num_heads)

    def forward(self, positions: Tensor | None, adjacency: Adjacency) -> LayerOptions:
        """The bias of every attention, a rule; `positions` [N] as for `OffsetBias`."""
        slopes = torch.tensor(self.slopes, device=adjacency.device)
        table = slopes.new_zeros(1, len(self.slopes))
        return {"bias": OffsetBias(table, _unusual(positions, adjacency), slope=slopes)}


class RelativeBias(nn.Module):
    """T5's bias: one learned number a head for each bucket of distances.

    The first half of a direction's buckets hold one distance each, the others stretch as its
    logarithm, up to `max_distance`; the last holds all from there on.

    Args:
        num_heads: H.
        num_buckets: how many numbers a head has.
        max_distance: from where on all distances are one.
        bidirectional: whether later sources have half of the buckets; else they are all as near
            as the node itself, as in a decoder.

    Source: Raffel et al., 2020 (T5), section 2.1.
    """

    def __init__(
        self,
        num_heads: int,
        *,
        num_buckets: int = 32,
        max_distance: int = 128,
        bidirectional: bool = True,
    ) -> None:
        super().__init__()
        one_way = num_buckets // 2 if bidirectional else num_buckets
        if one_way < 2 or max_distance <= one_way // 2:
            raise ValueError(
                f"num_buckets and max_distance must leave 2 buckets a direction and more distances "
                f"than buckets, got {num_buckets} and {max_distance}"
            )
        self.max_distance, self.bidirectional = max_distance, bidirectional
        self.buckets = nn.Embedding(num_buckets, num_heads)

    def forward(self, positions: Tensor | None, adjacency: Adjacency) -> LayerOptions:
        """The bias of every attention, a rule; `positions` [N] as for `OffsetBias`."""
        reach, device = self.max_distance, self.buckets.weight.device
        table = self.buckets(self.bucket(torch.arange(-reach, reach + 1, device=device)))
        return {"bias": OffsetBias(table, _unusual(positions, adjacency))}

    def bucket(self, offsets: Tensor) -> Tensor:
        """The bucket of each offset j - i, int64 of the same shape."""
        count = self.buckets.num_embeddings
        if self.bidirectional:
            count //= 2
            side, distance = (offsets > 0) * count, offsets.abs()
        else:
            side, distance = torch.zeros_like(offsets), (-offsets).clamp(min=0)
        exact = count // 2
        growth = (distance.clamp(min=1).float() / exact).log() / math.log(self.max_distance / exact)
        far = (exact + (growth * (count - exact)).long()).clamp(max=count - 1)
        return side + torch.where(distance < exact, distance, far)


def _unusual(positions: Tensor | None, adjacency: Adjacency) -> Tensor | None:
    """Positions that are not the place in the sample; None lets the rule be one for all samples."""
    if positions is None or torch.compiler.is_compiling():
        return positions
    return None if torch.equal(positions, places(adjacency)[0]) else positions


def _slopes(num_heads: int) -> list[float]:
    below = 2 ** math.floor(math.log2(num_heads))
    slopes = [2.0 ** (-8 * h / below) for h in range(1, below + 1)]
    between = [2.0 ** (-4 * h / below) for h in range(1, 2 * below + 1, 2)]
    return slopes + between[: num_heads - below]
