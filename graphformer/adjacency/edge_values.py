"""Aligns values given for an edge list with the edges of an adjacency."""

from __future__ import annotations

import torch
from torch import Tensor

from graphformer.adjacency.base import Adjacency


def edge_values(
    adjacency: Adjacency, edge_index: Tensor, values: Tensor, fill: float = 0
) -> Tensor:
    """Return a value for each edge of an adjacency, [E, ...], from values of an edge list.

    It aligns the edge features in the data with a union, a graph with self-loops or the complete
    graph. Values of edges that the adjacency does not have are left out.

    Args:
        adjacency: an adjacency with E edges.
        edge_index: the edges that have values, integer [2, E'].
        values: one row for each of them, [E', ...].
        fill: the value of edges that are not in `edge_index`.

    Raises:
        ValueError: when the number of values is not that of the edges, or duplicates of an edge
            have different values.
        IndexError: when a node of `edge_index` is not in the adjacency.
    """
    if values.shape[0] != edge_index.shape[1]:
        raise ValueError(
            f"values: got shape {tuple(values.shape)}, expected {edge_index.shape[1]} rows; give "
            "one for each edge of edge_index"
        )
    same_number = edge_index.shape[1] == adjacency.num_edges
    if same_number and torch.equal(adjacency.edge_index, edge_index.long()):
        return values
    edge_ids = adjacency.find_edges(edge_index[1].long(), edge_index[0].long())
    present = edge_ids >= 0
    edge_ids, values = edge_ids[present], values[present]
    aligned = values.new_full((adjacency.num_edges, *values.shape[1:]), fill)
    aligned = aligned.index_put((edge_ids,), values)
    if not _equal(aligned.detach()[edge_ids], values.detach()):
        raise ValueError(
            "values: got different values for duplicates of one edge, expected equal ones; "
            "coalesce edges and values first"
        )
    return aligned


def _equal(a: Tensor, b: Tensor) -> bool:
    """Whether all values are equal, NaN being equal to NaN."""
    return bool(((a == b) | ((a != a) & (b != b))).all())
