"""Patterns: rules that make the adjacency for a batch. What a YAML file or a flag names.

A batch is anything with `lengths` (nodes a sample), PyG's `ptr` or at least `num_nodes`; `Grid`
wants `shapes`, `Edges` wants `edge_index`. Patterns compose with `|` and `&`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, reduce
from operator import and_, or_
from typing import Any

import torch
from torch.utils.weak import WeakTensorKeyDictionary

from graphformer import adjacency
from graphformer.adjacency import CSR, Adjacency


class Pattern:
    """A rule that makes the adjacency for a batch."""

    def __call__(self, batch: Any) -> Adjacency:
        """Return who attends to whom in `batch`."""
        raise NotImplementedError

    def __or__(self, other: Pattern) -> Union:
        """The edges of either."""
        return Union((self, other))

    def __and__(self, other: Pattern) -> Intersection:
        """The edges of both."""
        return Intersection((self, other))


@dataclass(frozen=True)
class Complete(Pattern):
    """Every node attends to every node of its sample: the standard transformer."""

    def __call__(self, batch: Any) -> Adjacency:
        """Return the complete graph over each sample."""
        return _rule(adjacency.complete, lengths(batch))


@dataclass(frozen=True)
class Causal(Pattern):
    """Every node attends to itself and the nodes before it: GPT."""

    def __call__(self, batch: Any) -> Adjacency:
        """Return the lower triangle over each sample."""
        return _rule(adjacency.causal, lengths(batch))


@dataclass(frozen=True)
class Window(Pattern):
    """Every node attends to those at most `radius` places away; if `causal`, only back."""

    radius: int
    causal: bool = False

    def __call__(self, batch: Any) -> Adjacency:
        """Return the band over each sample."""
        return _rule(adjacency.window, lengths(batch), self.radius, self.causal)


@dataclass(frozen=True)
class Grid(Pattern):
    """Every patch attends to those at most `radius` rows and columns away."""

    radius: int = 1

    def __call__(self, batch: Any) -> Adjacency:
        """Return the neighbourhoods within each image; wants `batch.shapes`."""
        shapes = _wanted(batch, "shapes", "Grid")
        return _rule(adjacency.grid, tuple(map(tuple, shapes)), self.radius)


@dataclass(frozen=True)
class SelfLoops(Pattern):
    """Every node attends to itself alone: no messages, the baseline for any edges."""

    def __call__(self, batch: Any) -> Adjacency:
        """Return one edge a node."""
        return _rule(adjacency.window, lengths(batch), 0)


@dataclass(frozen=True)
class Edges(Pattern):
    """Every node attends to the sources of its edges in the data: a graph transformer, GAT."""

    self_loops: bool = False
    undirected: bool = False

    def __call__(self, batch: Any) -> Adjacency:
        """Return the edges of the batch; wants `batch.edge_index`."""
        edge_index = _wanted(batch, "edge_index", "Edges")
        if edge_index.is_inference():  # nobody could tell whether it was edited since
            return self._make(edge_index, batch.num_nodes)
        # A graph that comes again as the same tensor keeps its adjacency, by-source order and all.
        version, made = _MADE.get(edge_index, (None, {}))
        if version != edge_index._version:
            made = {}
            _MADE[edge_index] = edge_index._version, made
        key = self, batch.num_nodes
        if key not in made:
            made[key] = self._make(edge_index, batch.num_nodes)
        return made[key]

    @torch.inference_mode(False)  # what is kept from a validation epoch may serve in training
    def _make(self, edge_index: Any, num_nodes: int) -> Adjacency:
        edges: Adjacency = adjacency.from_edge_index(edge_index, num_nodes)
        edges = edges | edges.T if self.undirected else edges
        return edges.with_self_loops() if self.self_loops else edges


@dataclass(frozen=True)
class Union(Pattern):
    """The edges that any of the patterns has."""

    patterns: tuple[Pattern, ...]

    def __post_init__(self) -> None:
        _check_parts(self)

    def __call__(self, batch: Any) -> Adjacency:
        """Return the union of what the patterns make of the batch."""
        return _combined(or_, *(pattern(batch) for pattern in self.patterns))


@dataclass(frozen=True)
class Intersection(Pattern):
    """The edges that all of the patterns have."""

    patterns: tuple[Pattern, ...]

    def __post_init__(self) -> None:
        _check_parts(self)

    def __call__(self, batch: Any) -> Adjacency:
        """Return the intersection of what the patterns make of the batch."""
        return _combined(and_, *(pattern(batch) for pattern in self.patterns))


def lengths(batch: Any) -> tuple[int, ...]:
    """The number of nodes of each sample: `batch.lengths`, or from `ptr`, or all nodes as one."""
    given = getattr(batch, "lengths", None)
    if given is not None:
        return tuple(map(int, given))
    ptr = getattr(batch, "ptr", None)
    return (batch.num_nodes,) if ptr is None else tuple(ptr.diff().tolist())


_MADE = WeakTensorKeyDictionary()


@lru_cache(maxsize=16)
def _rule(make: Callable[..., Adjacency], *arguments: Any) -> Adjacency:
    """Make a rule's adjacency once for a batch layout; equal batches share what it keeps."""
    return make(*arguments)


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def _combined(combine: Callable[..., Adjacency], *parts: Adjacency) -> Adjacency:
    """Combine adjacencies once for a batch layout, where the edges that are stored lie."""
    device = next((part.device for part in parts if isinstance(part, CSR)), parts[0].device)
    return reduce(combine, (part.to(device) for part in parts))


def _wanted(batch: Any, name: str, pattern: str) -> Any:
    value = getattr(batch, name, None)
    if value is None:
        raise ValueError(f"the pattern {pattern} needs batch.{name}, which this batch lacks")
    return value


def _check_parts(pattern: Union | Intersection) -> None:
    object.__setattr__(pattern, "patterns", tuple(pattern.patterns))
    if not pattern.patterns:
        raise ValueError(f"{type(pattern).__name__} needs at least one pattern, got none")
