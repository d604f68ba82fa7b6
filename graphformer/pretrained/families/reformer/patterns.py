"""The patterns of Reformer: chunks of a sample, and chunks of a sample that is sorted by a hash."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

import torch
from torch import Tensor
from torch.nn import functional as F

from graphformer.adjacency import CSR, Adjacency, TiledEdges, Tiles
from graphformer.batch_type import BatchLike
from graphformer.patterns import Pattern
from graphformer.patterns.base import over_samples
from graphformer.patterns.content.base import ContentPattern, by_head, groups, head_rows


class Chunking(NamedTuple):
    """Nodes see their own chunk and chunks next to it; the first and the last are neighbors.

    Samples are filled up to a multiple of `multiple` nodes if they have more than `shortest`; what
    fills them is seen by no node, but its chunks count.

    Attributes:
        length: nodes of a chunk; a sample of at most one chunk is seen as a whole.
        before, after: number of chunks that are seen on each side.
        multiple: see above.
        shortest: see above.
    """

    length: int
    before: int
    after: int
    multiple: int
    shortest: int

    def filled(self, size: int) -> int:
        """Return the number of nodes of a sample that is filled up."""
        return size if size <= self.shortest else -(-size // self.multiple) * self.multiple

    def sources(self, size: int, device: torch.device) -> Tensor:
        """Return the places that each place of a sample sees, int64 [n, w]; n for none.

        Args:
            size: n.
            device: of the result.
        """
        place = torch.arange(size, device=device)
        filled = self.filled(size)
        if filled <= self.length:
            return place.expand(size, size)
        offsets = torch.arange(-self.before, self.after + 1, device=device)
        chunks = (place.unsqueeze(1) // self.length + offsets) % -(-filled // self.length)
        inside = torch.arange(self.length, device=device)
        return (chunks.unsqueeze(2) * self.length + inside).flatten(1).clamp(max=size)


class Rows(NamedTuple):
    """Groups of nodes of one sample and head, and the nodes they see; -1 where there are fewer.

    Attributes:
        targets: the row of each node, int64 [T, m].
        sources: [T, n].
    """

    targets: Tensor
    sources: Tensor


@dataclass(frozen=True)
class Chunks(Pattern):
    """Every node attends to the nodes of its chunk, and of the chunks next to it.

    Args:
        chunking: the chunks of a sample.
        causal: whether nodes attend to themselves and earlier nodes only.

    Source: Kitaev et al., 2020, "Reformer", section 2 (local attention).
    """

    chunking: Chunking
    causal: bool = False

    def __call__(self, batch: BatchLike) -> Adjacency:
        """Return the edges within each sample."""
        return over_samples(batch, _edges, self.chunking, self.causal)


@dataclass(frozen=True)
class HashedChunks(ContentPattern):
    """Every node attends to the chunks around it when its sample is sorted by a hash of queries.

    A query q falls into the bucket argmax([q R, -q R]) of a random rotation R of each head. Nodes
    are sorted by bucket, then position. In contrast to `graphformer.patterns.LSH`, chunks contain
    the end of one bucket and the start of the next, and all of them move as a text grows.

    Args:
        chunking: the chunks of the sorted sample.
        buckets: number of buckets, a factor of each rotation; None for twice the number of chunks
            rounded down to a power of 2, in two factors if there are more than `most_buckets`.
        most_buckets: see above.
        causal: whether nodes attend to themselves and earlier nodes only.
        seed: of the rotations.
        rounds: number of rotations; an edge of several rounds counts that often in the softmax.

    Source: Kitaev et al., 2020, "Reformer", section 2.
    """

    chunking: Chunking
    buckets: tuple[int, ...] | None
    most_buckets: int
    causal: bool = False
    seed: int = 0
    rounds: int = 1

    def select(self, q: Tensor, k: Tensor, lengths: tuple[int, ...]) -> Adjacency:
        """Return the edges of queries [N, H, D], N x N; those of several rounds are repeated."""
        count, num_heads = q.shape[:2]
        tiles: list[list[Rows]] = [[] for _ in range(self.rounds)]
        for group in groups(lengths, q.device):
            rows = head_rows(group.nodes, num_heads, count).flatten(0, 1)  # [c H, n]
            orders = self._orders(by_head(q, group)).flatten(1, 2)  # [R, c H, n]
            for number, round_ in enumerate(self._tiles(rows, orders)):
                tiles[number].append(round_)
        rounds = tuple(_joined(parts, q.device, causal=self.causal) for parts in tiles)
        return TiledEdges(rounds, (count, count), num_heads, is_coalesced=self.rounds == 1)

    def mask(self, q: Tensor, k: Tensor, first: int = 0) -> NoReturn:
        """Refuse, as earlier nodes have other edges when a text is longer.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            "adjacency: got HashedChunks for decoding with a cache, expected chunks that do not "
            "move as a text grows; pass cache=False, or another pattern, such as LSH or Causal"
        )

    def _tiles(self, rows: Tensor, orders: Tensor) -> Iterator[Rows]:
        """Yield the chunks of each round, of samples with the rows [b, n] in the orders [R, b, n].

        Rounds follow one another, so that the first chunk of a round sees the last one of the
        round before. A sample of one chunk is seen as a whole, in the first round only.
        """
        size, (length, chunks) = rows.shape[-1], self._chunks(rows.shape[-1])
        pad = chunks * length - size
        # [b, R, chunks, length]: the rows of all places; -1 for what fills a round up
        placed = F.pad(rows.expand_as(orders).gather(-1, orders), (0, pad), value=-1)
        placed = placed.unflatten(-1, (chunks, length)).transpose(0, 1)
        whole = placed.flatten(1, 2)
        before, after = (self.chunking.before, self.chunking.after) if chunks > 1 else (0, 0)
        seen = torch.cat([whole.roll(-i, 1) for i in range(-before, after + 1)], dim=-1)
        for number, sources in enumerate(seen.unflatten(1, placed.shape[1:3]).unbind(1)):
            if number and chunks == 1:
                sources = torch.full_like(sources, -1)
            yield Rows(placed[:, number].flatten(0, 1), sources.flatten(0, 1))

    def _chunks(self, size: int) -> tuple[int, int]:
        """Return the length and the number of the chunks of a sample."""
        filled, length = self.chunking.filled(size), self.chunking.length
        return (size, 1) if filled <= length else (length, filled // length)

    def _orders(self, q: Tensor) -> Tensor:
        """Return the positions [R, c, H, n] of queries [c, H, n, D] by bucket, then position."""
        size = q.shape[-2]
        position = torch.arange(size, device=q.device)
        filled = self.chunking.filled(size)
        if filled <= self.chunking.length:
            return position.expand(self.rounds, *q.shape[:-1])
        return (self._buckets(q, self._factors(filled)) * size + position).argsort(-1)

    def _buckets(self, q: Tensor, factors: tuple[int, ...]) -> Tensor:
        """Return the bucket of each query in each round, int64 [R, c, H, n]."""
        generator = torch.Generator().manual_seed(self.seed)
        shape = q.shape[1], q.shape[-1], self.rounds, sum(factors) // 2
        rotation = torch.randn(shape, generator=generator, dtype=q.dtype).to(q.device)
        rotated = torch.einsum("chnd,hdor->ochnr", q, rotation)
        bucket = torch.zeros(rotated.shape[:-1], dtype=torch.int64, device=q.device)
        product = 1
        for factor, part in zip(factors, rotated.split([f // 2 for f in factors], -1), strict=True):
            bucket += product * torch.cat([part, -part], dim=-1).argmax(-1)
            product *= factor
        return bucket

    def _factors(self, filled: int) -> tuple[int, ...]:
        if self.buckets is not None:
            return self.buckets
        power = (2 * (filled // self.chunking.length)).bit_length() - 1
        if 2**power <= self.most_buckets:
            return (2**power,)
        return 2 ** (power // 2), 2 ** (power - power // 2)


def _edges(sizes: tuple[int, ...], chunking: Chunking, causal: bool) -> Adjacency:
    """Return the edges of nodes to their chunks in each sample."""
    targets, sources, first = [], [], 0
    for size in sizes:
        place = torch.arange(size).unsqueeze(1)
        source = chunking.sources(size, place.device)
        present = (source <= place) if causal else (source < size)
        targets.append(first + place.expand_as(source)[present])
        sources.append(first + source[present])
        first += size
    edge_index = torch.stack([torch.cat(sources), torch.cat(targets)])
    return CSR.from_edges(edge_index, (first, first)).canonical()


def _joined(parts: list[Rows], device: torch.device, *, causal: bool) -> Tiles:
    """Return the tiles of samples of several sizes, filled up to the largest with -1."""
    nothing = torch.empty(0, 0, dtype=torch.int64, device=device)
    targets, sources = map(_stacked, zip(Rows(nothing, nothing), *parts, strict=True))

    def mask(part: slice | Tensor) -> Tensor:
        target, source = targets[part].unsqueeze(2), sources[part].unsqueeze(1)
        present = (target >= 0) & (source >= 0)
        return present & (source <= target) if causal else present

    return Tiles(targets, sources, mask)


def _stacked(parts: tuple[Tensor, ...]) -> Tensor:
    """Return the rows of tensors of several widths, filled up with -1."""
    width = max(part.shape[1] for part in parts)
    return torch.cat([F.pad(part, (0, width - part.shape[1]), value=-1) for part in parts])
