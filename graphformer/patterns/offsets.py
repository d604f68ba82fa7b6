"""Edges that were learned from what a model attends to; `graphformer.models.learn_adjacency`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphformer import adjacency
from graphformer.adjacency import Adjacency
from graphformer.patterns.base import Pattern, lengths, rule
from graphformer.patterns.sparse import by_size, device_of


@dataclass(frozen=True)
class Offsets(Pattern):
    """Every node attends to those at given distances, to given places, and some to all.

    A place counts from a sample's start, 0 being its first node, or from its end, -1 being its
    last; samples without such a place or distance go without those edges.

    Args:
        offsets: how many places after the node (before it, if negative) its sources stand.
        sources: places that every node attends to.
        targets: places whose nodes attend to every node.
    """

    offsets: tuple[int, ...]
    sources: tuple[int, ...] = ()
    targets: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("offsets", "sources", "targets"):
            object.__setattr__(self, name, tuple(sorted(set(map(int, getattr(self, name))))))

    def __call__(self, batch: Any) -> Adjacency:
        """Return the edges within each sample; a plain window where they are one."""
        sizes, reach = lengths(batch), max(map(abs, self.offsets), default=0)
        if not self.sources and not self.targets and 0 in self.offsets:
            for causal in (False, True):
                if self.offsets == tuple(range(-reach, 1 if causal else reach + 1)):
                    return rule(adjacency.window, sizes, reach, causal)
        return rule(
            by_size, _offsets, sizes, self.offsets, self.sources, self.targets, device_of(batch)
        )


@dataclass(frozen=True)
class FixedEdges(Pattern):
    """Every node attends to given nodes, the same in all samples, which have one size.

    Args:
        sources: for each node of a sample, the numbers of those that it attends to, from 0.
    """

    sources: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        rows = tuple(tuple(sorted(set(map(int, row)))) for row in self.sources)
        object.__setattr__(self, "sources", rows)
        wrong = [j for row in rows for j in row if not 0 <= j < len(rows)]
        if wrong:
            raise ValueError(
                f"sources must be numbers from 0 to {len(rows) - 1}, as there are {len(rows)} "
                f"nodes, got {wrong[0]}"
            )

    def __call__(self, batch: Any) -> Adjacency:
        """Return the edges within each sample; ValueError for samples of another size."""
        sizes = lengths(batch)
        for size in sizes:
            if size != len(self.sources):
                raise ValueError(
                    f"FixedEdges has the edges of samples of {len(self.sources)} nodes, got one "
                    f"of {size}"
                )
        return rule(by_size, _fixed, sizes, self.sources, device_of(batch))


@lru_cache(maxsize=512)
def _offsets(
    size: int, offsets: tuple[int, ...], sources: tuple[int, ...], targets: tuple[int, ...]
) -> NDArray[np.int64]:
    mask = np.zeros((size, size), dtype=bool)  # [target, source]
    for offset in offsets:
        if abs(offset) < size:
            np.fill_diagonal(mask[max(-offset, 0) :, max(offset, 0) :], True)
    for place in sources:
        if -size <= place < size:
            mask[:, place] = True
    for place in targets:
        if -size <= place < size:
            mask[place] = True
    target, source = np.nonzero(mask)
    return np.stack([source, target])


@lru_cache(maxsize=32)
def _fixed(size: int, sources: tuple[tuple[int, ...], ...]) -> NDArray[np.int64]:
    counts = [len(row) for row in sources]
    source = np.array([j for row in sources for j in row], dtype=np.int64)
    return np.stack([source, np.arange(size).repeat(counts)])
