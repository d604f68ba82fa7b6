"""The union of several adjacencies, which remembers where each edge came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from graphformer.adjacency.base import Adjacency, _ordered


def union(adjacencies: Sequence[Adjacency]) -> Adjacency:
    """The edges of any of the adjacencies; its `kinds` tell which have each edge.

    Ordered by target, then source, unless one adjacency holds all others: then it is that one.
    Costs a sort of all edges, whatever the number of parts, where `a | b | c` costs two sorts.

    Args:
        adjacencies: of one shape, on one device.

    Raises ValueError for an empty sequence and for several shapes or devices, TypeError for
    anything but adjacencies.
    """
    parts = tuple(adjacencies)
    if not parts:
        raise ValueError("adjacencies must hold at least one adjacency, got none")
    return replace(_whole(parts), parts=parts)


def joined(a: Adjacency, b: Adjacency) -> Adjacency:
    """The union of two adjacencies; where one is a union itself, its parts become parts."""
    return replace(_whole((a, b)), parts=(*(a.parts or (a,)), *(b.parts or (b,))))


def _whole(parts: tuple[Adjacency, ...]) -> Any:
    """The edges of all parts, without the memory of what they came from."""
    for part in parts:
        parts[0]._by_size(part)  # checks types, shapes and devices
    largest = max(parts, key=lambda part: part.num_edges)
    extra = [_missing(part, largest) for part in parts if part is not largest]
    if any(edges.shape[1] for edges in extra):
        return _ordered(torch.cat([largest.edge_index, *extra], dim=1), largest.shape)
    return largest


def _missing(part: Adjacency, whole: Adjacency) -> torch.Tensor:
    """The edges [2, E'] of a part that the whole lacks."""
    csr = part.to_csr()
    missing = ~whole.contains(csr.target, csr.indices.long())
    return torch.stack([csr.indices[missing].long(), csr.target[missing]])
