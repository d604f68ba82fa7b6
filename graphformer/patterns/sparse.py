"""Sparse patterns that reach far: expanders, random and dilated edges, nodes that see all."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.random import Generator, default_rng
from numpy.typing import NDArray
from torch import Tensor

from graphformer.adjacency import CSR, Adjacency
from graphformer.patterns.base import Pattern, lengths, rule, wanted

EdgeArray = NDArray[np.int64]


@dataclass(frozen=True)
class Expander(Pattern):
    """A random regular graph over each sample: few edges, and short paths between all nodes.

    Every node has `degree` neighbours, in both directions; samples of up to 2 * degree nodes are
    complete. A sample's edges depend on its size and the `seed` alone.

    Source: Shirzad et al., 2023, "Exphormer", section 3.1; Friedman, 2003.
    """

    degree: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if self.degree < 2 or self.degree % 2:
            raise ValueError(f"degree must be even and at least 2, got {self.degree}")

    def __call__(self, batch: Any) -> Adjacency:
        """Return an expander over each sample."""
        return rule(by_size, _expander, lengths(batch), self.degree, self.seed, device_of(batch))


@dataclass(frozen=True)
class Random(Pattern):
    """Every node attends to `degree` random nodes of its sample, or to all where it has fewer.

    A sample's edges depend on its size and the `seed` alone.

    Source: Zaheer et al., 2020, "Big Bird", section 2.
    """

    degree: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.degree < 0:
            raise ValueError(f"degree must be at least 0, got {self.degree}")

    def __call__(self, batch: Any) -> Adjacency:
        """Return random edges within each sample."""
        return rule(by_size, _random, lengths(batch), self.degree, self.seed, device_of(batch))


@dataclass(frozen=True)
class Dilated(Pattern):
    """Every node attends to itself and `radius` nodes on either side, `dilation` places apart.

    Source: Beltagy et al., 2020, "Longformer", section 3.1.
    """

    radius: int
    dilation: int = 2

    def __post_init__(self) -> None:
        if self.radius < 0 or self.dilation < 1:
            raise ValueError(
                f"radius must be at least 0 and dilation at least 1, got {self.radius} and "
                f"{self.dilation}"
            )

    def __call__(self, batch: Any) -> Adjacency:
        """Return the band with gaps over each sample."""
        return rule(by_size, _dilated, lengths(batch), self.radius, self.dilation, device_of(batch))


@dataclass(frozen=True)
class GlobalNodes(Pattern):
    """The first `count` nodes of each sample see all of it and are seen by all.

    Source: Beltagy et al., 2020, "Longformer", section 3.1.
    """

    count: int = 1

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"count must be at least 1, got {self.count}")

    def __call__(self, batch: Any) -> Adjacency:
        """Return the edges from and to the first nodes of each sample."""
        sizes = lengths(batch)
        starts = np.cumsum([0, *sizes])
        nodes = [range(a, a + min(self.count, n)) for a, n in zip(starts, sizes, strict=False)]
        return rule(_stars, sizes, tuple(int(i) for part in nodes for i in part), device_of(batch))


@dataclass(frozen=True)
class VirtualNode(Pattern):
    """The nodes in `batch.virtual_mask` see all of their sample and are seen by all.

    The transform `graphformer.data.graph.encodings.AddVirtualNode` adds such a node to each graph.

    Source: Gilmer et al., 2017, section 5.2; Shirzad et al., 2023, section 3.2.
    """

    def __call__(self, batch: Any) -> Adjacency:
        """Return the edges from and to virtual nodes; wants `batch.virtual_mask`, bool [N]."""
        mask = wanted(batch, "virtual_mask", "VirtualNode")
        nodes = tuple(mask.nonzero().flatten().tolist())
        return rule(_stars, lengths(batch), nodes, mask.device)


def device_of(batch: Any) -> torch.device:
    """Where the batch lies: explicit edges have to be there too."""
    found = (getattr(batch, name, None) for name in ("x", "edge_index", "pos"))
    return next((x.device for x in found if isinstance(x, Tensor)), torch.device("cpu"))


def by_size(make: Any, sizes: tuple[int, ...], *options: Any) -> CSR:
    """The disjoint union of what `make(size, *options)` gives, put on the device named last."""
    *settings, device = options
    starts = np.cumsum([0, *sizes])
    samples = [
        make(size, *settings) + start for size, start in zip(sizes, starts, strict=False) if size
    ]
    return _csr(np.concatenate([np.empty((2, 0), np.int64), *samples], axis=1), sizes, device)


def _stars(sizes: tuple[int, ...], centres: tuple[int, ...], device: torch.device) -> CSR:
    """Edges between each centre and all nodes of its sample, both ways, itself included."""
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
    """Floyd's way to draw without replacement, for all targets at once."""
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
    cycle = random.permutation(size)  # connects all; the rest is drawn by pairing
    edges = np.stack([cycle, np.roll(cycle, 1)])
    if degree > 2:
        edges = np.concatenate([edges, _pairing(edges, size, degree - 2, random)], axis=1)
    return np.concatenate([edges, edges[::-1]], axis=1)


def _pairing(taken: EdgeArray, size: int, degree: int, random: Generator) -> EdgeArray:
    """A random regular graph without loops, duplicates or the edges that are taken.

    Nodes are paired at random. What does not fit, a number that does not grow with the size,
    changes partners with random pairs until all fit.
    """
    pairs = random.permutation(np.arange(size).repeat(degree)).reshape(2, -1)
    while len(wrong := np.flatnonzero(_unfit(pairs, taken, size))):
        others = random.choice(pairs.shape[1], len(wrong), replace=False)
        for one, other in zip(wrong, others, strict=True):
            pairs[1, [one, other]] = pairs[1, [other, one]]
    return pairs


def _unfit(pairs: EdgeArray, taken: EdgeArray, size: int) -> NDArray[np.bool_]:
    """Which pairs are loops, are taken, or came before."""
    keys, known = (edges.min(0) * size + edges.max(0) for edges in (pairs, taken))
    first = np.zeros(len(keys), dtype=bool)
    first[np.unique(keys, return_index=True)[1]] = True
    return ~first | (pairs[0] == pairs[1]) | np.isin(keys, known)
