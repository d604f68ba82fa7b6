"""Patterns defined by a batch's layout alone, and `Edges`, the edges in the data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from graphformer import adjacency
from graphformer.adjacency import CSR, Adjacency
from graphformer.adjacency.from_tensor import cached_by_tensor
from graphformer.patterns.base import Pattern, cached_adjacency, over_samples
from graphformer.patterns.fields import device_of, require_field, require_tensor

if TYPE_CHECKING:
    from graphformer.batch_type import BatchLike


@dataclass(frozen=True)
class Complete(Pattern):
    """Every node attends to every node of its sample: the standard transformer."""

    def __call__(self, batch: BatchLike) -> Adjacency:
        """Return the complete graph over each sample."""
        return over_samples(batch, adjacency.complete)


@dataclass(frozen=True)
class Causal(Pattern):
    """Every node attends to itself and the nodes before it: GPT."""

    def __call__(self, batch: BatchLike) -> Adjacency:
        """Return the lower triangle over each sample."""
        return over_samples(batch, adjacency.causal)


@dataclass(frozen=True)
class Window(Pattern):
    """Every node attends to nodes at most `radius` positions away; if `causal`, to earlier ones."""

    radius: int
    causal: bool = False

    def __call__(self, batch: BatchLike) -> Adjacency:
        """Return the band over each sample."""
        return over_samples(batch, adjacency.window, self.radius, self.causal)


@dataclass(frozen=True)
class Grid(Pattern):
    """Every patch attends to those at most `radius` away along every axis: rows, columns, time.

    Args:
        radius: one distance, or one for each axis: [0, 8] attends along rows of 8 columns, and
            `Grid((0, 8)) | Grid((8, 0))` along rows and columns.
        causal: leave out patches that are later along the first axis, time in videos.

    Raises:
        ValueError: when radius is neither an integer nor a sequence of them.
    """

    radius: int | tuple[int, ...] = 1
    causal: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.radius, list):
            object.__setattr__(self, "radius", tuple(self.radius))
        given = self.radius if isinstance(self.radius, tuple) else (self.radius,)
        if not all(isinstance(number, int) and number >= 0 for number in given):
            raise ValueError(
                f"radius: got {self.radius!r}, expected an integer from 0 up, or one for each axis"
            )

    def __call__(self, batch: BatchLike) -> Adjacency:
        """Return the neighbourhoods within each sample; reads `batch.shapes`."""
        shapes = require_field(batch, "shapes", "the pattern Grid reads the sizes of each axis")
        sizes = tuple(map(tuple, shapes))
        return cached_adjacency(_grid, sizes, self.radius, self.causal, device_of(batch))


def _grid(
    shapes: tuple[tuple[int, ...], ...],
    radius: int | tuple[int, ...],
    causal: bool,
    device: torch.device,
) -> Adjacency:
    """A grid that stores its edges is put on the device of the batch."""
    made = adjacency.grid(shapes, radius, causal)
    return made.to(device) if isinstance(made, CSR) else made


@dataclass(frozen=True)
class SelfLoops(Pattern):
    """Every node attends to itself only: a baseline without messages."""

    def __call__(self, batch: BatchLike) -> Adjacency:
        """Return one edge per node."""
        return over_samples(batch, adjacency.window, 0)


@dataclass(frozen=True)
class Edges(Pattern):
    """Every node attends to the sources of its edges in the data: a graph transformer, GAT.

    Repeated edges are one edge, unless they differ in `edge_attr`, `edge_type`, `edge_weight` or
    `edge_time`, as in knowledge graphs: then each has its own share of the softmax. (With
    `undirected` they are one edge, and must not differ.)
    """

    self_loops: bool = False
    undirected: bool = False

    def __call__(self, batch: BatchLike) -> Adjacency:
        """Return the edges of the batch; reads `batch.edge_index`."""
        edge_index = require_tensor(batch, "edge_index", "the pattern Edges reads it")
        num_nodes = batch.num_nodes
        assert num_nodes is not None
        edges = self._cached(edge_index, num_nodes, coalesce=True)
        if not self.undirected and _differ_when_repeated(batch, edges):
            return self._cached(edge_index, num_nodes, coalesce=False)
        return edges

    def _cached(self, edge_index: Tensor, num_nodes: int, *, coalesce: bool) -> Adjacency:
        def compute() -> Adjacency:
            return self._adjacency(edge_index, num_nodes, coalesce)

        return cached_by_tensor(edge_index, (self, num_nodes, coalesce), compute)

    def _adjacency(self, edge_index: Tensor, num_nodes: int, coalesce: bool) -> Adjacency:
        edges: Any = adjacency.from_edge_index(edge_index, num_nodes, coalesce=coalesce)
        if self.undirected:  # both directions are one part of a union, so `parts` is emptied
            edges = replace(edges | edges.T, parts=())
        return edges.with_self_loops() if self.self_loops else edges


def _differ_when_repeated(batch: BatchLike, edges: Adjacency) -> bool:
    """Whether repeated edges of a batch have different values."""
    inverse = edges.inverse_index if isinstance(edges, CSR) else None
    if inverse is None:
        return False
    for name in ("edge_attr", "edge_type", "edge_weight", "edge_time"):
        values = getattr(batch, name, None)
        if isinstance(values, Tensor) and len(values) == batch.edge_index.shape[1]:
            values, ids = values.detach(), inverse[: len(values)]  # self-loops may follow
            last = values.new_empty(edges.num_edges, *values.shape[1:]).index_put((ids,), values)
            if not torch.equal(last[ids], values):
                return True
    return False
