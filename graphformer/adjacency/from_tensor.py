"""Adjacencies of PyG's inputs: an edge_index, an `EdgeIndex`, a sparse tensor; cached by tensor."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TypeVar

import torch
from torch import Tensor
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack
from torch.utils.weak import WeakIdKeyDictionary

from graphformer.adjacency.base import Adjacency
from graphformer.adjacency.cached_property import is_transformed, outside_inference_mode
from graphformer.adjacency.constructors import from_edge_index

T = TypeVar("T")
_CACHE = WeakIdKeyDictionary()
"""For each tensor its version and what was computed from it, by key."""
_SPARSE = (torch.sparse_coo, torch.sparse_csr, torch.sparse_csc)


def as_adjacency(edges: Adjacency | Tensor, num_nodes: int | tuple[int, int]) -> Adjacency:
    """Return an adjacency as it is, or that of a tensor, cached while the tensor exists.

    Args:
        edges: an adjacency; an integer tensor [2, E] or `torch_geometric.EdgeIndex`, sources
            above targets; or a sparse tensor [M, N] with a row per target, PyG's `adj_t`.
        num_nodes: the number of nodes, or (targets, sources).

    Raises:
        TypeError: when it is neither an adjacency nor a tensor of integers.
        ValueError: as in `from_edge_index`.
        IndexError: when a node is out of range.
    """
    if isinstance(edges, Adjacency):
        return edges
    if not isinstance(edges, Tensor):
        raise TypeError(
            f"adjacency: got {type(edges).__name__}, expected an adjacency, a pattern or an "
            "edge_index [2, E]; make one with graphformer.from_edge_index, from_mask or "
            "from_networkx"
        )
    if torch.compiler.is_exporting():  # its tensors and sizes are symbols
        return _from_tensor(edges, num_nodes)
    return cached_by_tensor(edges, ("as", num_nodes), lambda: _from_tensor(edges, num_nodes))


def cached_by_tensor(edge_index: Tensor, key: Hashable, compute: Callable[[], T]) -> T:
    """Return `compute()`, cached for the tensor until it is modified in place or freed.

    A graph that is passed again as the same tensor so reuses its adjacency and what that caches.
    Modifications are detected by the tensor's version, which `.data` and numpy do not change.
    """
    if torch.compiler.is_compiling():
        return _in_a_graph_break(edge_index, key, compute)
    return _cached_by_tensor(edge_index, key, compute)


def _cached_by_tensor(edge_index: Tensor, key: Hashable, compute: Callable[[], T]) -> T:
    edge_index = getattr(edge_index, "_data", edge_index)  # an EdgeIndex itself has no version
    if edge_index.is_inference():  # has no version either
        return outside_inference_mode(compute)()
    version, values = _CACHE.get(edge_index, (None, {}))
    if version != edge_index._version:
        values = {}
        _CACHE[edge_index] = edge_index._version, values
    if key not in values and is_transformed(edge_index):
        with temporarily_clear_interpreter_stack():
            values[key] = outside_inference_mode(compute)()
    elif key not in values:
        values[key] = outside_inference_mode(compute)()
    return values[key]


_in_a_graph_break = torch.compiler.disable(_cached_by_tensor)


def _from_tensor(edges: Tensor, num_nodes: int | tuple[int, int]) -> Adjacency:
    if edges.layout in _SPARSE:
        edges = edges.to_sparse_coo().coalesce().indices().flip(0)
    return from_edge_index(edges, num_nodes)
