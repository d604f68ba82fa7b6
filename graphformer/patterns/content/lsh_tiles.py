"""The edges of `LSH` as tiles of dense products."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from graphformer.adjacency import TiledEdges, Tiles
from graphformer.patterns.content.base import groups, head_rows
from graphformer.patterns.content.lsh_spans import Buckets, Choice, bounds


def tiled_edges(buckets: Buckets, choice: Choice) -> TiledEdges:
    """Return the edges of all samples.

    Args:
        buckets: of the queries and keys.
        choice: of the sources in a bucket.
    """
    (num_rounds, num_heads, count), num_kv_heads = buckets.query.shape, buckets.key.shape[1]
    device = buckets.query.device
    spans = [Span.empty(num_heads * count, device) for _ in range(num_rounds)]
    tiles: list[list[tuple[Tensor, Tensor]]] = [[] for _ in range(num_rounds)]
    all_keys = buckets.key.repeat_interleave(num_heads // num_kv_heads, dim=1)
    for group in groups(buckets.lengths, device):
        row = head_rows(group.nodes, num_heads, count).flatten(0, 1)
        # [R, c H, n]
        queries, keys = (
            x[:, :, group.nodes].transpose(1, 2).flatten(1, 2) for x in (buckets.query, all_keys)
        )
        for number, (query, key) in enumerate(zip(queries, keys, strict=True)):
            span = sorted_spans(query, key, choice.window, causal=choice.causal)
            for all_rows, own in zip(spans[number], span[:3], strict=True):
                all_rows[row.flatten()] = own.flatten().to(all_rows.dtype)
            tiles[number].append(_tiles(span, row, choice.window))
    alone = _only_itself(spans) if choice.shared else None
    rounds = tuple(_round(parts, spans[: number + 1], alone) for number, parts in enumerate(tiles))
    return TiledEdges(rounds, (count, count), num_heads)


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
    def empty(rows: int, device: torch.device | None) -> tuple[Tensor, Tensor, Tensor]:
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
    low, high = bounds(after, start, end, window, causal=causal)
    rank = torch.empty_like(keys).scatter_(-1, keys, position.expand_as(keys))
    return Span(low, high, rank, after, targets, keys)


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
