"""The patterns of Reformer: chunks of a sample, and chunks of a sample that is sorted by a hash."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, NoReturn

import torch
from torch import Tensor

from graphformer.adjacency import CSR, Adjacency, HeadEdges
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

    Source: Kitaev et al., 2020, "Reformer", section 2.
    """

    chunking: Chunking
    buckets: tuple[int, ...] | None
    most_buckets: int
    causal: bool = False
    seed: int = 0

    def select(self, q: Tensor, k: Tensor, lengths: tuple[int, ...]) -> Adjacency:
        """Return the edges of queries [N, H, D], N x N."""
        count, num_heads = q.shape[:2]
        if not count:
            return CSR.from_edges(torch.empty(2, 0, dtype=torch.int64, device=q.device), (0, 0))
        targets, sources = [], []
        for group in groups(lengths, q.device):
            order = self._order(by_head(q, group, num_heads))
            rows = head_rows(group.nodes, num_heads, count)
            source, present = self._sources(order)
            targets.append(rows.gather(2, order).unsqueeze(-1).expand_as(source)[present])
            sources.append(rows.gather(2, source.flatten(2)).view_as(source)[present])
        target, source = torch.cat(targets), torch.cat(sources)
        head = target // count
        shape = count, count
        return HeadEdges.from_head_edges(
            head, target - head * count, source - head * count, shape, num_heads
        )

    def mask(self, q: Tensor, k: Tensor, first: int = 0) -> NoReturn:
        """Refuse, as earlier nodes have other edges when a text is longer.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            "adjacency: got HashedChunks for decoding with a cache, expected chunks that do not "
            "move as a text grows; pass cache=False, or another pattern, such as LSH or Causal"
        )

    def _sources(self, order: Tensor) -> tuple[Tensor, Tensor]:
        """Return the positions [c, H, n, w] that each place sees, and which of them are present."""
        size = order.shape[-1]
        place = self.chunking.sources(size, order.device)  # [n, w]
        source = order[..., place.clamp(max=size - 1)]
        present = (place < size).expand_as(source)
        if self.causal:
            present = present & (source <= order.unsqueeze(-1))
        return source, present

    def _order(self, q: Tensor) -> Tensor:
        """Return the positions [c, H, n] of queries [c, H, n, D] ordered by bucket and position."""
        size = q.shape[-2]
        position = torch.arange(size, device=q.device)
        filled = self.chunking.filled(size)
        if filled <= self.chunking.length:
            return position.expand(q.shape[:-1])
        return (self._buckets(q, self._factors(filled)) * size + position).argsort(-1)

    def _buckets(self, q: Tensor, factors: tuple[int, ...]) -> Tensor:
        """Return the bucket of each query, int64 [c, H, n]."""
        generator = torch.Generator().manual_seed(self.seed)
        shape = q.shape[1], q.shape[-1], 1, sum(factors) // 2
        rotation = torch.randn(shape, generator=generator, dtype=q.dtype).squeeze(2).to(q.device)
        rotated = torch.einsum("chnd,hdr->chnr", q, rotation)
        bucket, product = torch.zeros(q.shape[:-1], dtype=torch.int64, device=q.device), 1
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
