"""The edges that a PyG layer attends over, computed once per `edge_index` for all layers."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from graphformer.adjacency import CSR, from_edge_index
from graphformer.adjacency.from_tensor import cached_by_tensor


class LayerEdges(NamedTuple):
    """The edges that a layer attends over."""

    adjacency: CSR
    """In the order of the caller's edges, duplicates not coalesced, as in PyG."""
    with_loops: Tensor | None
    """The edges with the added self-loops, [2, E]; None where none are added."""
    non_loops: Tensor | None
    """Which of the caller's edges are not self-loops, bool; None if all."""


def layer_edges(
    edge_index: Tensor, shape: tuple[int, int], num_loops: int | None = None
) -> LayerEdges:
    """Return the edges of a layer, cached until the tensor is modified in place or freed.

    Args:
        edge_index: integer [2, E].
        shape: (targets, sources).
        num_loops: replace the self-loops by one at each of so many first nodes; None to keep them.
    """
    key = "pyg", shape, num_loops
    return cached_by_tensor(edge_index, key, lambda: _layer_edges(edge_index, shape, num_loops))


def _layer_edges(edge_index: Tensor, shape: tuple[int, int], num_loops: int | None) -> LayerEdges:
    if num_loops is None:
        return LayerEdges(from_edge_index(edge_index, shape, coalesce=False), None, None)
    no_loop = edge_index[0] != edge_index[1]
    non_loops = None if no_loop.all() else no_loop
    rest = edge_index if non_loops is None else edge_index[:, non_loops]
    nodes = torch.arange(num_loops, dtype=edge_index.dtype, device=edge_index.device)
    with_loops = torch.cat([rest, nodes.expand(2, -1)], dim=1)
    return LayerEdges(from_edge_index(with_loops, shape, coalesce=False), with_loops, non_loops)
