"""The adjacency of an `edge_index`, made once for all layers and steps that are given it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from graphformer.adjacency import CSR, from_edge_index


class LayerEdges(NamedTuple):
    """The edges that a layer attends over."""

    adjacency: CSR
    """In the order of the caller's edges, duplicates kept apart as PyG does."""
    looped: Tensor | None
    """The edges with self-loops, [2, E]; None where none are added."""
    kept: Tensor | None
    """Which of the caller's edges are no self-loops, bool; None if all."""


# Keyed by the tensor itself, so that a graph that is no longer in use is forgotten.
_known = WeakIdKeyDictionary()


@torch.compiler.disable
def edges_of(edge_index: Tensor, shape: tuple[int, int], loops: int | None = None) -> LayerEdges:
    """Return the edges of a layer with `shape` (targets, sources), kept until they change.

    Given `loops`, the self-loops are replaced by one at each of the first `loops` nodes. Changes
    in place are noticed by the tensor's version, so not those through `.data` or numpy.
    """
    if edge_index.is_inference():  # has no version
        return _edges(edge_index, shape, loops)
    version, found = _known.get(edge_index, (None, {}))
    if version != edge_index._version:
        found = {}
        _known[edge_index] = (edge_index._version, found)
    key = shape, loops
    if key not in found:
        with torch.inference_mode(False):  # what validation makes, training must be able to use
            found[key] = _edges(edge_index, shape, loops)
    return found[key]


def _edges(edge_index: Tensor, shape: tuple[int, int], loops: int | None) -> LayerEdges:
    if loops is None:
        return LayerEdges(from_edge_index(edge_index, shape, coalesce=False), None, None)
    no_loop = edge_index[0] != edge_index[1]
    kept = None if no_loop.all() else no_loop
    rest = edge_index if kept is None else edge_index[:, kept]
    nodes = torch.arange(loops, dtype=edge_index.dtype, device=edge_index.device)
    looped = torch.cat([rest, nodes.expand(2, -1)], dim=1)
    return LayerEdges(from_edge_index(looped, shape, coalesce=False), looped, kept)
