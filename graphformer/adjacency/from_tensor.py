"""Adjacencies out of what PyG code has: an `edge_index`, an `EdgeIndex`, a sparse tensor."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from graphformer.adjacency.base import Adjacency
from graphformer.adjacency.constructors import from_edge_index

T = TypeVar("T", bound=Adjacency)
_CACHE = WeakIdKeyDictionary()
_SPARSE = (torch.sparse_coo, torch.sparse_csr, torch.sparse_csc)


def as_adjacency(edges: Adjacency | Tensor, num_nodes: int | tuple[int, int]) -> Adjacency:
    """The adjacency itself, or the one of an `edge_index`, kept as long as that tensor lives.

    Args:
        edges: an adjacency; an integer tensor [2, E] or `torch_geometric.EdgeIndex`, sources
            above targets; or a sparse tensor [M, N] with a row a target, PyG's `adj_t`.
        num_nodes: the number of nodes, or (targets, sources).

    Raises TypeError for anything else, and as `from_edge_index` does.
    """
    if isinstance(edges, Adjacency):
        return edges
    if not isinstance(edges, Tensor):
        raise TypeError(
            f"adjacency must be a graphformer adjacency or an edge_index [2, E], got "
            f"{type(edges).__name__}"
        )
    return cached_by_tensor(edges, ("as", num_nodes), lambda: _from_tensor(edges, num_nodes))


@torch.compiler.disable
def cached_by_tensor(edge_index: Tensor, key: Hashable, make: Callable[[], T]) -> T:
    """What `make` gives, kept for the tensor until that is edited in place or goes.

    A graph that comes again as the same tensor so keeps its adjacency, by-source order and all.
    """
    edge_index = getattr(edge_index, "_data", edge_index)  # an EdgeIndex has no version itself
    if edge_index.is_inference():  # nobody could tell whether it was edited since
        return _outside_inference(make)
    version, found = _CACHE.get(edge_index, (None, {}))
    if version != edge_index._version:
        found = {}
        _CACHE[edge_index] = edge_index._version, found
    if key not in found:
        found[key] = _outside_inference(make)
    return found[key]


@torch.inference_mode(False)  # what is kept from a validation epoch may serve in training
def _outside_inference(make: Callable[[], T]) -> T:
    return make()


def _from_tensor(edges: Tensor, num_nodes: int | tuple[int, int]) -> Adjacency:
    if edges.layout in _SPARSE:
        edges = edges.to_sparse_coo().coalesce().indices().flip(0)
    return from_edge_index(edges, num_nodes)
