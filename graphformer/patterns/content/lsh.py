"""`LSH`: sources in the same bucket of a locality-sensitive hash."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from graphformer.adjacency import Adjacency, TiledEdges, Tiles
from graphformer.patterns.content.base import (
    ContentPattern,
    by_head,
    check_positive,
    groups,
    head_rows,
)


@dataclass(frozen=True)
class LSH(ContentPattern):
    """Every node attends to the nearest `window` nodes whose keys fall into its query's bucket.

    A vector x falls into the bucket argmax([x R, -x R]) of a random rotation R. The sources of a
    node are, of the keys in the bucket of its query, the `window` last ones up to the node itself
    if causal, and the `window` around it in the order of the sample otherwise. With several rounds,
    each of another rotation, the edges are the union of those of all rounds. As the window belongs
    to the node and not to a chunk of the sorted sequence, as in Reformer, the edges of a node
    depend on no later node if causal, and decoding with a cache gives the tokens of the full pass.

    Args:
        buckets: number of buckets, even.
        rounds: number of rotations.
        window: number of sources in each round.
        causal: whether nodes attend to themselves and earlier nodes only.
        shared: for attention with shared queries and keys, where the product of a
            node with itself exceeds all others: a node attends to itself only if it has no other
            source.
        seed: of the rotations, which are the same in all heads, blocks and calls.

    Raises:
        ValueError: when a number is out of range.

    Source: Kitaev et al., 2020, "Reformer: the efficient transformer", section 2.
    """

    buckets: int
    rounds: int = 1
    window: int = 64
    causal: bool = False
    shared: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        check_positive(buckets=self.buckets, rounds=self.rounds, window=self.window)
        if self.buckets % 2:
            raise ValueError(f"buckets: got {self.buckets}, expected an even number, for R and -R")

    def select(self, q: Tensor, k: Tensor, lengths: tuple[int, ...]) -> Adjacency:
        """Return the edges of queries [N, H, D] and keys [N, Hkv, D], N x N."""
        count, num_heads = q.shape[:2]
        rows = num_heads * count
        spans = [Span.empty(rows, q.device) for _ in range(self.rounds)]
        tiles: list[list[tuple[Tensor, Tensor]]] = [[] for _ in range(self.rounds)]
        for group in groups(lengths, q.device):
            row = head_rows(group.nodes, num_heads, count).flatten(0, 1)
            buckets = (self._buckets(by_head(x, group, num_heads).flatten(0, 1)) for x in (q, k))
            for number, (query, key) in enumerate(zip(*buckets, strict=True)):
                span = sorted_spans(query, key, self.window, causal=self.causal)
                for all_rows, own in zip(spans[number], span[:3], strict=True):
                    all_rows[row.flatten()] = own.flatten().to(all_rows.dtype)
                tiles[number].append(_tiles(span, row, self.window))
        alone = _only_itself(spans) if self.shared else None
        rounds = tuple(
            _round(parts, spans[: number + 1], alone) for number, parts in enumerate(tiles)
        )
        return TiledEdges(rounds, (count, count), num_heads)

    def mask(self, q: Tensor, k: Tensor, first: int = 0) -> Tensor:
        """Return the sources of the targets from `first` of one sample, bool [H, n - first, n]."""
        size = len(k)
        keys = k.transpose(0, 1).repeat_interleave(q.shape[1] // k.shape[1], dim=0)
        query, key = self._buckets(q[first:].transpose(0, 1)), self._buckets(keys)
        same = query.unsqueeze(-1) == key.unsqueeze(-2)  # [R, H, n - first, n]
        source = torch.arange(size, device=q.device)
        target = source[first:].unsqueeze(1)
        before = (same & (source <= target)).sum(-1, keepdim=True)
        end = before if self.causal else same.sum(-1, keepdim=True)
        low, high = _bounds(before, torch.zeros_like(end), end, self.window, causal=self.causal)
        rank = same.cumsum(-1) - 1
        mask = (same & (rank >= low) & (rank < high)).any(0)
        if not self.shared:
            return mask
        others = mask & (source != target)
        return torch.where(others.any(-1, keepdim=True), others, mask)

    def _buckets(self, x: Tensor) -> Tensor:
        """Return the bucket of each vector x [..., n, D] in each round, int64 [R, ..., n]."""
        rotation = _rotations(x.shape[-1], self.rounds, self.buckets // 2, self.seed)
        rotated = torch.einsum("...d,rdb->r...b", x.float(), rotation.to(x.device))
        largest = rotated.abs().argmax(-1, keepdim=True)  # of [x R, -x R], too
        is_negative = rotated.gather(-1, largest) < 0
        return (largest + is_negative * (self.buckets // 2)).squeeze(-1)


class Span(NamedTuple):
    """The sources of targets as spans of the sorted keys of their sample and head."""

    low: Tensor
    """The rank of the first source, [..., n]."""
    high: Tensor
    """The rank after the last source, [..., n]."""
    rank: Tensor
    """The rank of each key, ordered by bucket, then position, [..., n]."""
    after: Tensor
    """The number of keys up to the target in that order, [..., n]."""
    targets: Tensor
    """Targets ordered by bucket, then position, int64 [..., n]."""
    keys: Tensor
    """The key of each rank, int64 [..., n]."""

    @staticmethod
    def empty(rows: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Return empty spans and ranks of a number of rows."""
        zeros = torch.zeros(3, rows, dtype=torch.int32, device=device)
        return zeros[0], zeros[1], zeros[2]


def sorted_spans(query: Tensor, key: Tensor, window: int, *, causal: bool) -> Span:
    """Return the sources of each target as a span of the keys, sorted by bucket and position.

    Args:
        query: bucket of each query, int64 [b, n].
        key: bucket of each key, int64 [b, n].
        window: maximal number of sources.
        causal: whether the span ends at the target, or is around it.
    """
    size = query.shape[-1]
    position = torch.arange(size, device=query.device)
    # Numbers that are ordered by bucket, then position.
    codes, wanted = key * size + position, query * size + position
    ordered, keys = codes.sort(-1)
    targets = wanted.argsort(-1)
    after = torch.searchsorted(ordered, wanted, right=True)
    start = torch.searchsorted(ordered, query * size)
    end = after if causal else torch.searchsorted(ordered, (query + 1) * size)
    low, high = _bounds(after, start, end, window, causal=causal)
    rank = torch.empty_like(keys).scatter_(-1, keys, position.expand_as(keys))
    return Span(low, high, rank, after, targets, keys)


def _bounds(
    after: Tensor, start: Tensor, end: Tensor, window: int, *, causal: bool
) -> tuple[Tensor, Tensor]:
    """Return the first rank of the span and the rank after its last.

    Args:
        after: the number of keys up to the target, in the order of the ranks.
        start, end: the ranks of the bucket.
        window: maximal number of sources.
        causal: whether the span ends at the target.
    """
    if causal:
        return torch.maximum(after - window, start), after
    low = torch.maximum(after - (window + 1) // 2, start)
    high = torch.minimum(low + window, end)
    return torch.maximum(high - window, start), high


def _tiles(span: Span, row: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """Return tiles of at most `window` targets in sorted order, whose spans lie close together.

    The span of a tile has at most 3 `window` ranks, 2 if causal.

    Args:
        span: of [b, n] targets.
        row: the row of each node, int64 [b, n].
        window: of the spans.

    Returns:
        Rows of the targets [T, m] and of the sources [T, n'], -1 where there is none.
    """
    size, device = row.shape[-1], row.device
    low, high, after = (x.gather(-1, span.targets) for x in (span.low, span.high, span.after))
    position = torch.arange(size, device=device).expand_as(low)
    # Both numbers ascend along the sorted targets, so a tile is a run of equal pairs of them. With
    # shared queries and keys the numbers are equal.
    pair = torch.stack([position // window, (after - 1).clamp(min=0) // window])
    is_first = (pair[..., 1:] != pair[..., :-1]).any(0)
    is_first = F.pad(is_first, (1, 0), value=True).flatten()
    tile = is_first.cumsum(0) - 1
    starts = is_first.nonzero().flatten()
    column = torch.arange(len(tile), device=device) - starts[tile]
    targets = torch.full((len(starts), min(window, size)), -1, dtype=torch.int64, device=device)
    targets[tile, column] = row.gather(-1, span.targets).flatten()
    first = low.flatten()[starts]
    last = torch.zeros_like(first).scatter_reduce_(0, tile, high.flatten(), "amax")
    rank = first.unsqueeze(1) + torch.arange(int((last - first).max()), device=device)
    sorted_rows = row.gather(-1, span.keys)
    sample = (starts // size).unsqueeze(1)
    sources = sorted_rows.flatten()[sample * size + rank.clamp(max=size - 1)]
    return targets, sources.masked_fill(rank >= last.unsqueeze(1), -1)


def _round(
    parts: list[tuple[Tensor, Tensor]],
    spans: list[tuple[Tensor, Tensor, Tensor]],
    alone: Tensor | None,
) -> Tiles:
    """Return the tiles of a round without the edges of the rounds before.

    Args:
        parts: tiles of the samples of each size.
        spans: low, high and rank by row, of the rounds up to this one.
        alone: which targets have themselves as only source, bool by row; None if nodes attend to
            themselves anyway.
    """
    device = spans[0][0].device
    shapes = [(targets.shape[1], sources.shape[1]) for targets, sources in parts]
    m, n = (max((shape[i] for shape in shapes), default=0) for i in (0, 1))
    targets = torch.full((sum(len(part[0]) for part in parts), m), -1, device=device)
    sources = torch.full((len(targets), n), -1, device=device)
    first = 0
    for own_targets, own_sources in parts:
        part = slice(first, first + len(own_targets))
        targets[part, : own_targets.shape[1]] = own_targets
        sources[part, : own_sources.shape[1]] = own_sources
        first = part.stop

    low, high = (x[targets.clamp(min=0)] for x in spans[-1][:2])
    low, high = low.where(targets >= 0, 1), high.where(targets >= 0, 0)  # no edge without a target

    def mask(part: slice | Tensor) -> Tensor:
        t, s = (x[part].clamp(min=0) for x in (targets, sources))
        rank = spans[-1][2][s].where(sources[part] >= 0, -1).unsqueeze(1)
        present = _inside(rank, low[part], high[part])
        for low_before, high_before, rank_before in spans[:-1]:
            present &= ~_inside(rank_before[s].unsqueeze(1), low_before[t], high_before[t])
        if alone is not None:
            present &= (t.unsqueeze(2) != s.unsqueeze(1)) | alone[t].unsqueeze(2)
        return present

    return Tiles(targets, sources, mask, has_edges=high > low if len(spans) == 1 else None)


def _inside(rank: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return whether low <= rank < high, bool [t, m, n], of ranks [t, 1, n] and bounds [t, m]."""
    return (rank >= low.unsqueeze(2)) & (rank < high.unsqueeze(2))


def _only_itself(spans: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """Return which targets have no source but themselves in any round, bool by row."""
    others = []
    for low, high, rank in spans:
        own = (rank >= low) & (rank < high)
        others.append((high - low) > own.to(low.dtype))
    return ~torch.stack(others).any(0)


@lru_cache(maxsize=16)
def _rotations(width: int, rounds: int, count: int, seed: int) -> Tensor:
    """Return random rotations, float32 [R, D, count]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rounds, width, count, generator=generator)
