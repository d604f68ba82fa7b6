"""Patterns of learned edges, by offset or by position; made by `models.learn_adjacency`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from graphformer import adjacency
from graphformer.adjacency import Adjacency
from graphformer.patterns.base import Pattern, over_samples
from graphformer.patterns.fields import device_of, lengths
from graphformer.patterns.sparse import union_of_samples

if TYPE_CHECKING:
    from graphformer.batch_type import BatchLike


@dataclass(frozen=True)
class Offsets(Pattern):
    """Every node attends to nodes at fixed offsets and fixed positions; some nodes attend to all.

    A position counts from a sample's start, 0 being its first node, or from its end, -1 being its
    last; offsets and positions outside of a sample are left out.

    Args:
        offsets: position of the source minus position of the target.
        sources: positions of nodes that every node attends to.
        targets: positions of nodes that attend to every node.
    """

    offsets: tuple[int, ...]
    sources: tuple[int, ...] = ()
    targets: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("offsets", "sources", "targets"):
            object.__setattr__(self, name, tuple(sorted(set(map(int, getattr(self, name))))))

    def __call__(self, batch: BatchLike) -> Adjacency:
        """Return the edges within each sample; an implicit window where the offsets form one."""
        reach = max(map(abs, self.offsets), default=0)
        if not self.sources and not self.targets and 0 in self.offsets:
            for causal in (False, True):
                if self.offsets == tuple(range(-reach, 1 if causal else reach + 1)):
                    return over_samples(batch, adjacency.window, reach, causal)
        settings = self.offsets, self.sources, self.targets
        return over_samples(batch, union_of_samples, _offsets, *settings, device_of(batch))


@dataclass(frozen=True)
class FixedEdges(Pattern):
    """Every node attends to fixed nodes, the same in all samples, which have the same size.

    Args:
        sources: for each node of a sample, the numbers of its sources, from 0.

    Raises:
        ValueError: when a number is out of range.
    """

    sources: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        rows = tuple(tuple(sorted(set(map(int, row)))) for row in self.sources)
        object.__setattr__(self, "sources", rows)
        invalid = [j for row in rows for j in row if not 0 <= j < len(rows)]
        if invalid:
            raise ValueError(
                f"sources: got node {invalid[0]}, expected numbers from 0 to {len(rows) - 1}; give "
                "a row for each node of a sample"
            )

    def __call__(self, batch: BatchLike) -> Adjacency:
        """Return the edges within each sample.

        Raises:
            ValueError: when a sample has another number of nodes than there are rows.
        """
        for size in set(lengths(batch)) - {len(self.sources)}:
            raise ValueError(
                f"batch.lengths: got a sample of {size} nodes, expected {len(self.sources)}, for "
                "which FixedEdges has the edges; use Offsets for samples of several sizes"
            )
        return over_samples(batch, union_of_samples, _fixed, self.sources, device_of(batch))


@lru_cache(maxsize=512)
def _offsets(
    size: int, offsets: tuple[int, ...], sources: tuple[int, ...], targets: tuple[int, ...]
) -> NDArray[np.int64]:
    """Sources and targets [2, E] of one sample."""
    mask = np.zeros((size, size), dtype=bool)  # [target, source]
    for offset in offsets:
        if abs(offset) < size:
            np.fill_diagonal(mask[max(-offset, 0) :, max(offset, 0) :], True)
    for position in sources:
        if -size <= position < size:
            mask[:, position] = True
    for position in targets:
        if -size <= position < size:
            mask[position] = True
    target, source = np.nonzero(mask)
    return np.stack([source, target])


@lru_cache(maxsize=32)
def _fixed(size: int, sources: tuple[tuple[int, ...], ...]) -> NDArray[np.int64]:
    """Sources and targets [2, E] of one sample, from the sources of each target."""
    counts = [len(row) for row in sources]
    source = np.array([j for row in sources for j in row], dtype=np.int64)
    return np.stack([source, np.arange(size).repeat(counts)])
