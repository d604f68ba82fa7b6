"""The rules that need nothing but a batch's layout, and the edges that it brings along."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from graphformer import adjacency
from graphformer.adjacency import Adjacency
from graphformer.adjacency.from_tensor import cached_by_tensor
from graphformer.patterns.base import Pattern, lengths, rule, wanted


@dataclass(frozen=True)
class Complete(Pattern):
    """Every node attends to every node of its sample: the standard transformer."""

    def __call__(self, batch: Any) -> Adjacency:
        """Return the complete graph over each sample."""
        return rule(adjacency.complete, lengths(batch))


@dataclass(frozen=True)
class Causal(Pattern):
    """Every node attends to itself and the nodes before it: GPT."""

    def __call__(self, batch: Any) -> Adjacency:
        """Return the lower triangle over each sample."""
        return rule(adjacency.causal, lengths(batch))


@dataclass(frozen=True)
class Window(Pattern):
    """Every node attends to those at most `radius` places away; if `causal`, only back."""

    radius: int
    causal: bool = False

    def __call__(self, batch: Any) -> Adjacency:
        """Return the band over each sample."""
        return rule(adjacency.window, lengths(batch), self.radius, self.causal)


@dataclass(frozen=True)
class Grid(Pattern):
    """Every patch attends to those at most `radius` rows and columns away."""

    radius: int = 1

    def __call__(self, batch: Any) -> Adjacency:
        """Return the neighbourhoods within each image; wants `batch.shapes`."""
        shapes = wanted(batch, "shapes", "Grid")
        return rule(adjacency.grid, tuple(map(tuple, shapes)), self.radius)


@dataclass(frozen=True)
class SelfLoops(Pattern):
    """Every node attends to itself alone: no messages, the baseline for any edges."""

    def __call__(self, batch: Any) -> Adjacency:
        """Return one edge a node."""
        return rule(adjacency.window, lengths(batch), 0)


@dataclass(frozen=True)
class Edges(Pattern):
    """Every node attends to the sources of its edges in the data: a graph transformer, GAT."""

    self_loops: bool = False
    undirected: bool = False

    def __call__(self, batch: Any) -> Adjacency:
        """Return the edges of the batch; wants `batch.edge_index`."""
        edge_index, nodes = wanted(batch, "edge_index", "Edges"), batch.num_nodes
        return cached_by_tensor(edge_index, (self, nodes), lambda: self._make(edge_index, nodes))

    def _make(self, edge_index: Any, num_nodes: int) -> Adjacency:
        edges: Any = adjacency.from_edge_index(edge_index, num_nodes)
        if self.undirected:  # edges of one kind, whichever way they were given
            edges = replace(edges | edges.T, parts=())
        return edges.with_self_loops() if self.self_loops else edges
