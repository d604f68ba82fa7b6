"""Values that belong to edges, laid on an adjacency that has other edges or another order."""

from __future__ import annotations

import torch
from torch import Tensor

from graphformer.adjacency.base import Adjacency


def edge_values(
    adjacency: Adjacency, edge_index: Tensor, values: Tensor, fill: float = 0
) -> Tensor:
    """Lay values of given edges on an adjacency, [E, ...] in its edge order.

    So the features of the edges in the data serve a union, a graph with self-loops or the
    complete graph. What the adjacency lacks is left out.

    Args:
        adjacency: of E edges.
        edge_index: the edges that have values, integer [2, E'].
        values: one row for each of them, [E', ...].
        fill: what edges without a value get.

    Raises ValueError for another number of values than edges, and where duplicates of an edge
    carry differing values.
    """
    if values.shape[0] != edge_index.shape[1]:
        raise ValueError(
            f"values must have a row for each of the {edge_index.shape[1]} edges of edge_index, "
            f"got shape {tuple(values.shape)}"
        )
    same = edge_index.shape[1] == adjacency.num_edges
    if same and torch.equal(adjacency.edge_index, edge_index.long()):
        return values
    number = adjacency.find_edges(edge_index[1].long(), edge_index[0].long())
    present = number >= 0
    number, given = number[present], values[present]
    laid = values.new_full((adjacency.num_edges, *values.shape[1:]), fill)
    laid = laid.index_put((number,), given)
    if not torch.equal(laid.detach()[number], given.detach()):
        raise ValueError(
            "values differ between duplicates of one edge; coalesce edges and values first"
        )
    return laid
