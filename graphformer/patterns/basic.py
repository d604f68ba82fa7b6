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
from graphformer.patterns.fields import require_field, require_tensor

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
    """Every patch attends to those at most `radius` rows and columns away."""

    radius: int = 1

    def __call__(self, batch: BatchLike) -> Adjacency:
        """Return the neighbourhoods within each image; reads `batch.shapes`."""
        shapes = require_field(batch, "shapes", "the pattern Grid reads rows and columns")
        return cached_adjacency(adjacency.grid, tuple(map(tuple, shapes)), self.radius)


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
