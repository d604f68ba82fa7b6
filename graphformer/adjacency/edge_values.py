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
    graph. Values of edges that the adjacency does not have are left out. If the adjacency has an
    edge several times (`coalesce=False`), its k-th occurrence gets the k-th value of that edge, or
    the last where there are fewer.

    Args:
        adjacency: an adjacency with E edges.
        edge_index: the edges that have values, integer [2, E'].
        values: one row for each of them, [E', ...].
        fill: the value of edges that are not in `edge_index`.

    Raises:
        ValueError: when the number of values is not that of the edges, or duplicates of an edge
            have different values and the adjacency has the edge less often.
        IndexError: when a node of `edge_index` is not in the adjacency.
    """
    if values.shape[0] != edge_index.shape[1]:
        raise ValueError(
            f"values: got shape {tuple(values.shape)}, expected {edge_index.shape[1]} rows; give "
            "one for each edge of edge_index"
        )
    if "edge_index" in vars(adjacency) and edge_index is adjacency.edge_index:
        return values
    if not adjacency.is_coalesced:
        return _values_of_parallel_edges(adjacency, edge_index.long(), values, fill)
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


def _values_of_parallel_edges(
    adjacency: Adjacency, edge_index: Tensor, values: Tensor, fill: float
) -> Tensor:
    """`edge_values` for an adjacency that may have an edge several times."""
    adjacency._check_nodes(edge_index[1], edge_index[0])
    size = max(adjacency.shape[1], 1)
    given, order = (edge_index[1] * size + edge_index[0]).sort(stable=True)
    source, target = adjacency.edge_index
    keys = target * size + source
    ordered, slots = keys.sort(stable=True)
    rank = torch.empty_like(keys)  # which occurrence of its edge each is
    rank[slots] = _occurrence(ordered)
    start, end = _range(given, keys)
    present = end > start
    here, there = _range(ordered, given)
    surplus = ((there > here) & (_occurrence(given) >= there - here)).nonzero().squeeze(1)
    in_order = values.detach()[order]
    if not _equal(in_order[surplus], in_order[surplus - 1]):
        raise ValueError(
            "values: got different values for more duplicates of an edge than the adjacency has, "
            "expected one for each; make the adjacency of this edge_index with coalesce=False"
        )
    position = torch.minimum(start + rank, end - 1)
    aligned = values.new_full((adjacency.num_edges, *values.shape[1:]), fill)
    return aligned.index_put((present.nonzero().squeeze(1),), values[order[position[present]]])


def _occurrence(ordered: Tensor) -> Tensor:
    """Which occurrence of its key each entry of an ascending list is, from 0."""
    return torch.arange(len(ordered), device=ordered.device) - torch.searchsorted(ordered, ordered)


def _range(ordered: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """The first position of each key in an ascending list, and that after its last."""
    return torch.searchsorted(ordered, keys), torch.searchsorted(ordered, keys, right=True)


def _equal(a: Tensor, b: Tensor) -> bool:
    """Whether all values are equal, NaN being equal to NaN."""
    return bool(((a == b) | ((a != a) & (b != b))).all())
