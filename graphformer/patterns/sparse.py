"""Sparse patterns with long-range edges: expander, random, dilated, global and virtual nodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.random import Generator, default_rng
from numpy.typing import NDArray

from graphformer.adjacency import CSR, Adjacency
from graphformer.patterns.base import Pattern, over_layout, over_samples
from graphformer.patterns.fields import device_of, require_tensor, sample_layout

if TYPE_CHECKING:
    from graphformer.batch_type import BatchLike

EdgeArray = NDArray[np.int64]
"""Sources above targets, [2, E]."""


@dataclass(frozen=True)
class Expander(Pattern):
    """A random regular graph over each sample: few edges and short paths between all nodes.

    Every node has `degree` neighbours, in both directions; samples of up to 2 * degree nodes are
    complete. A sample's edges depend on its size and the `seed` only.

    Source: Shirzad et al., 2023, "Exphormer", section 3.1; Friedman, 2003.
    """

    degree: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if self.degree < 2 or self.degree % 2:
            raise ValueError(
                f"degree: got {self.degree}, expected an even number from 2 up; change it"
            )

    def __call__(self, batch: BatchLike) -> Adjacency:
        """Return an expander over each sample."""
        settings = self.degree, self.seed, device_of(batch)
        return over_samples(batch, union_of_samples, _expander, *settings)


@dataclass(frozen=True)
class Random(Pattern):
    """Every node attends to `degree` random nodes of its sample, or to all if it has fewer.

    A sample's edges depend on its size and the `seed` only.

    Source: Zaheer et al., 2020, "Big Bird", section 2.
    """

    degree: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.degree < 0:
            raise ValueError(f"degree: got {self.degree}, expected at least 0; use 0 for no edges")

    def __call__(self, batch: BatchLike) -> Adjacency:
        """Return random edges within each sample."""
        settings = self.degree, self.seed, device_of(batch)
        return over_samples(batch, union_of_samples, _random, *settings)


@dataclass(frozen=True)
class Dilated(Pattern):
    """Every node attends to itself and `radius` nodes on either side, `dilation` positions apart.

    Source: Beltagy et al., 2020, "Longformer", section 3.1.
    """

    radius: int
    dilation: int = 2

    def __post_init__(self) -> None:
        if self.radius < 0:
            raise ValueError(f"radius: got {self.radius}, expected at least 0; increase it")
        if self.dilation < 1:
            raise ValueError(f"dilation: got {self.dilation}, expected at least 1; increase it")

    def __call__(self, batch: BatchLike) -> Adjacency:
        """Return the band with gaps over each sample."""
        settings = self.radius, self.dilation, device_of(batch)
        return over_samples(batch, union_of_samples, _dilated, *settings)


@dataclass(frozen=True)
class GlobalNodes(Pattern):
    """The first `count` nodes of each sample attend to all of its nodes, and all attend to them.

    Source: Beltagy et al., 2020, "Longformer", section 3.1.
    """

    count: int = 1

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"count: got {self.count}, expected at least 1; increase it")

    def __call__(self, batch: BatchLike) -> Adjacency:
        """Return the edges from and to the first nodes of each sample."""
        return over_samples(batch, _global_nodes, self.count, device_of(batch))


@dataclass(frozen=True)
class VirtualNode(Pattern):
    """The nodes in `batch.virtual_mask` attend to all of their sample, and all attend to them.

    The transform `graphformer.data.graph.encodings.AddVirtualNode` adds such a node to each graph.

    Source: Gilmer et al., 2017, section 5.2; Shirzad et al., 2023, section 3.2.
    """

    def __call__(self, batch: BatchLike) -> Adjacency:
        """Return the edges from and to virtual nodes; reads `batch.virtual_mask`, bool [N]."""
        mask = require_tensor(batch, "virtual_mask", "the pattern VirtualNode reads it")
        sizes, order = sample_layout(batch)
        nodes = (mask if order is None else mask[order]).nonzero().flatten()
        return over_layout(sizes, order, _stars, tuple(nodes.tolist()), mask.device)


def union_of_samples(sizes: tuple[int, ...], make: Callable[..., EdgeArray], *settings: Any) -> CSR:
    """Return the disjoint union of `make(size, ...)`, the edges of one sample, for all sizes.

    Args:
        sizes: the number of nodes of each sample.
        make: makes the edges [2, E] of a sample.
        settings: further arguments of `make`, then the device of the result.
    """
    *arguments, device = settings
    starts = np.cumsum([0, *sizes])
    samples = [
        make(size, *arguments) + start for size, start in zip(sizes, starts, strict=False) if size
    ]
    return _csr(np.concatenate([np.empty((2, 0), np.int64), *samples], axis=1), sizes, device)


def _global_nodes(sizes: tuple[int, ...], count: int, device: torch.device) -> CSR:
    """Edges between the first `count` nodes of each sample and all of its nodes."""
    starts = np.cumsum([0, *sizes])
    nodes = [range(a, a + min(count, n)) for a, n in zip(starts, sizes, strict=False)]
    return _stars(sizes, tuple(int(i) for sample in nodes for i in sample), device)


def _stars(sizes: tuple[int, ...], centres: tuple[int, ...], device: torch.device) -> CSR:
    """Edges between each centre and all nodes of its sample, in both directions."""
    ends = np.cumsum(sizes, dtype=np.int64)
    nodes = np.asarray(centres, dtype=np.int64)
    sample = np.searchsorted(ends, nodes, side="right")
    size = np.asarray(sizes, dtype=np.int64)[sample]
    centre = nodes.repeat(size)
    start = (ends[sample] - size).repeat(size)
    other = start + np.arange(len(start)) - (np.cumsum(size) - size).repeat(size)
    both = np.stack([np.r_[centre, other], np.r_[other, centre]])
    return _csr(both, sizes, device)


def _csr(edges: EdgeArray, sizes: tuple[int, ...], device: torch.device) -> CSR:
    """The edges [2, E] in the order by target, then source; duplicates count once."""
    nodes = sum(sizes)
    return CSR.from_edges(torch.from_numpy(edges), (nodes, nodes)).canonical().to(device)


@lru_cache(maxsize=512)
def _dilated(size: int, radius: int, dilation: int) -> EdgeArray:
    target = np.arange(size)[:, None]
    reach = min(radius, (size - 1) // dilation)
    source = target + np.arange(-reach, reach + 1) * dilation
    inside = (source >= 0) & (source < size)
    return np.stack([source[inside], np.broadcast_to(target, source.shape)[inside]])


@lru_cache(maxsize=512)
def _random(size: int, degree: int, seed: int) -> EdgeArray:
    """Floyd's algorithm for sampling without replacement, for all targets at once."""
    random, degree = default_rng([seed, size, degree]), min(degree, size)
    source = np.full((size, degree), -1)
    for column, last in enumerate(range(size - degree, size)):
        drawn = random.integers(last + 1, size=size)
        taken = (source == drawn[:, None]).any(1)
        source[:, column] = np.where(taken, last, drawn)
    return np.stack([source.ravel(), np.arange(size).repeat(degree)])


@lru_cache(maxsize=512)
def _expander(size: int, degree: int, seed: int) -> EdgeArray:
    if size <= 2 * degree:
        return np.stack(np.nonzero(~np.eye(size, dtype=bool)))
    random = default_rng([seed, size, degree])
    cycle = random.permutation(size)  # makes the graph connected; the rest is drawn by pairing
    edges = np.stack([cycle, np.roll(cycle, 1)])
    if degree > 2:
        edges = np.concatenate([edges, _pairing(edges, size, degree - 2, random)], axis=1)
    return np.concatenate([edges, edges[::-1]], axis=1)


def _pairing(taken: EdgeArray, size: int, degree: int, random: Generator) -> EdgeArray:
    """A random regular graph without loops, duplicates and the edges in `taken`.

    Nodes are paired at random (configuration model). Invalid pairs, whose expected number does not
    grow with the size, swap partners with random pairs until none is left.
    """
    pairs = random.permutation(np.arange(size).repeat(degree)).reshape(2, -1)
    while len(invalid := np.flatnonzero(_invalid(pairs, taken, size))):
        others = random.choice(pairs.shape[1], len(invalid), replace=False)
        for one, other in zip(invalid, others, strict=True):
            pairs[1, [one, other]] = pairs[1, [other, one]]
    return pairs


def _invalid(pairs: EdgeArray, taken: EdgeArray, size: int) -> NDArray[np.bool_]:
    """Which pairs are loops, edges in `taken`, or duplicates of an earlier pair; bool [P]."""
    keys, taken_keys = (edges.min(0) * size + edges.max(0) for edges in (pairs, taken))
    first = np.zeros(len(keys), dtype=bool)
    first[np.unique(keys, return_index=True)[1]] = True
    return ~first | (pairs[0] == pairs[1]) | np.isin(keys, taken_keys)
