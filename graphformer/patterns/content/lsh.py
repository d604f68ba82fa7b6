"""`LSH`: sources in the same bucket of a locality-sensitive hash."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from graphformer.adjacency import Adjacency, RowEdges
from graphformer.patterns.content.base import ContentPattern, check_positive
from graphformer.patterns.content.lsh_hash import hashed
from graphformer.patterns.content.lsh_rows import row_edges
from graphformer.patterns.content.lsh_spans import Buckets, Choice, bounds
from graphformer.patterns.content.lsh_tiles import tiled_edges


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
        redraw: whether each call through which gradients flow has rotations of its own, drawn by
            torch's generator as in Reformer, so that no query and key are separated throughout
            training. Calls without gradients have those of the seed.

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
    redraw: bool = False

    def __post_init__(self) -> None:
        check_positive(buckets=self.buckets, rounds=self.rounds, window=self.window)
        if self.buckets % 2:
            raise ValueError(f"buckets: got {self.buckets}, expected an even number, for R and -R")

    def in_training(self) -> LSH:
        """Return the pattern with other rotations if they are drawn anew."""
        return replace(self, seed=int(torch.randint(2**31, ()))) if self.redraw else self

    def select(self, q: Tensor, k: Tensor, lengths: tuple[int, ...]) -> Adjacency:
        """Return the edges of queries [N, H, D] and keys [N, Hkv, D], N x N."""
        buckets = Buckets(self._buckets(q), self._buckets(k), lengths)
        choice = Choice(self.buckets, self.window, self.causal, self.shared)
        edges: Adjacency | None = None
        if RowEdges.is_supported(q):
            edges = row_edges(buckets, choice)
        return tiled_edges(buckets, choice) if edges is None else edges

    def mask(self, q: Tensor, k: Tensor, first: int = 0) -> Tensor:
        """Return the sources of the targets from `first` of one sample, bool [H, n - first, n]."""
        size = len(k)
        query = self._buckets(q[first:])
        key = self._buckets(k).repeat_interleave(q.shape[1] // k.shape[1], dim=1)
        same = query.unsqueeze(-1) == key.unsqueeze(-2)  # [R, H, n - first, n]
        source = torch.arange(size, device=q.device)
        target = source[first:].unsqueeze(1)
        before = (same & (source <= target)).sum(-1, keepdim=True)
        end = before if self.causal else same.sum(-1, keepdim=True)
        low, high = bounds(before, torch.zeros_like(end), end, self.window, causal=self.causal)
        rank = same.cumsum(-1) - 1
        mask = (same & (rank >= low) & (rank < high)).any(0)
        if not self.shared:
            return mask
        others = mask & (source != target)
        return torch.where(others.any(-1, keepdim=True), others, mask)

    def _buckets(self, x: Tensor) -> Tensor:
        """Return the bucket of each vector x [n, H, D] in each round, int64 [R, H, n]."""
        return hashed(x, self.rounds, self.buckets, self.seed)
