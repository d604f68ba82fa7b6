"""Relative positions as a bias of the attention logits: ALiBi and T5's buckets."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from graphformer.adjacency import Adjacency
from graphformer.nn.options import LayerOptions
from graphformer.ops import OffsetBias
from graphformer.ops.offset_bias import default_positions


class ALiBi(nn.Module):
    """A bias proportional to distance, with a fixed slope per head: -slope_h |j - i|.

    The slopes of H = 2^n heads are 2^(-8 h / H), h from 1 to H; for another H those of the next
    smaller power of two, then every other one of the next larger. There are no parameters.

    Args:
        num_heads: H.

    Source: Press et al., 2022, "Train short, test long", section 3.
    """

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.slopes = _slopes(num_heads)

    def forward(self, positions: Tensor | None, adjacency: Adjacency) -> LayerOptions:
        """Return the option `bias` of attention, -slope |j - i| as a rule.

        Args:
            positions: of the nodes, [N]; by default the index of each in its sample.
            adjacency: N x N.
        """
        slopes = torch.tensor(self.slopes, device=adjacency.device)
        table = slopes.new_zeros(1, len(self.slopes))
        return {"bias": OffsetBias(table, _non_default(positions, adjacency), slope=slopes)}


class RelativeBias(nn.Module):
    """T5's bias: a learned number per head for each bucket of distances.

    The first half of a direction's buckets hold one distance each; the others grow logarithmically
    up to `max_distance`, and the last holds all larger ones.

    Args:
        num_heads: H.
        num_buckets: number of buckets.
        max_distance: first distance of the last bucket.
        bidirectional: whether half of the buckets are those of later sources; else all later
            sources share the bucket of distance 0, as in a decoder.

    Raises:
        ValueError: when there are too few buckets, or too few distances for them.

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
                f"num_buckets, max_distance: got {num_buckets} and {max_distance}, expected at "
                "least 2 buckets per direction, and more distances than buckets"
            )
        self.max_distance, self.bidirectional = max_distance, bidirectional
        self.buckets = nn.Embedding(num_buckets, num_heads)

    def forward(self, positions: Tensor | None, adjacency: Adjacency) -> LayerOptions:
        """Return the option `bias` of attention, a rule with one table entry per offset.

        Args:
            positions: of the nodes, [N]; by default the index of each in its sample.
            adjacency: N x N.
        """
        reach, device = self.max_distance, self.buckets.weight.device
        table = self.buckets(self.bucket(torch.arange(-reach, reach + 1, device=device)))
        return {"bias": OffsetBias(table, _non_default(positions, adjacency))}

    def bucket(self, offsets: Tensor) -> Tensor:
        """Return the bucket of each offset j - i, int64 of the same shape."""
        count = self.buckets.num_embeddings
        if self.bidirectional:
            count //= 2
            direction, distance = (offsets > 0) * count, offsets.abs()
        else:
            direction, distance = torch.zeros_like(offsets), (-offsets).clamp(min=0)
        exact = count // 2
        growth = (distance.clamp(min=1).float() / exact).log() / math.log(self.max_distance / exact)
        far = (exact + (growth * (count - exact)).long()).clamp(max=count - 1)
        return direction + torch.where(distance < exact, distance, far)


def _non_default(positions: Tensor | None, adjacency: Adjacency) -> Tensor | None:
    """Return positions, or None for the default ones, so that all samples share one bias."""
    if positions is None or torch.compiler.is_compiling():
        return positions
    return None if torch.equal(positions, default_positions(adjacency)[0]) else positions


def _slopes(num_heads: int) -> list[float]:
    """Return ALiBi's slopes, one per head."""
    below = 2 ** math.floor(math.log2(num_heads))
    slopes = [2.0 ** (-8 * h / below) for h in range(1, below + 1)]
    between = [2.0 ** (-4 * h / below) for h in range(1, 2 * below + 1, 2)]
    return slopes + between[: num_heads - below]
