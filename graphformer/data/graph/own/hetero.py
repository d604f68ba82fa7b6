"""Graphs with several types of nodes and edges (PyG's `HeteroData`) as one graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data, HeteroData

from graphformer.batch_type import IGNORE_INDEX
from graphformer.data.graph.own.tables import NodeNameList

_MASKS = ("train_mask", "val_mask", "test_mask")


def from_hetero(graph: HeteroData, node_type: str | None = None) -> Data:
    """Return one graph with `node_type` [N] and `edge_type` [E], numbered in PyG's order of types.

    x [N, sum of the widths] has the features of a node's type in the columns of that type, zero
    elsewhere; a type without features has one column of ones. Labels and masks are those of one
    type; nodes of other types have none.

    Args:
        graph: the graph.
        node_type: the type whose labels are predicted; None for the only one that has labels.

    Raises:
        ValueError: when there are no edges, no type with labels, or several without a choice;
            or real-valued labels without masks.
    """
    labelled = [name for name in graph.node_types if graph[name].get("y") is not None]
    if node_type is None and len(labelled) == 1:
        node_type = labelled[0]
    if node_type not in labelled:
        raise ValueError(
            f"node_type: got {node_type!r}, expected one of the types with labels, "
            f"{', '.join(labelled) or 'of which there are none'}"
        )
    counts = _counts(graph)
    result = join_types(graph)
    start = dict(zip(graph.node_types, _starts(counts), strict=True))[node_type]
    target = graph[node_type]
    if target.y.is_floating_point() and target.get("train_mask") is None:
        raise ValueError(
            f"{node_type}: got real-valued labels without masks, expected train_mask, val_mask and "
            "test_mask, which tell the labelled nodes; add them"
        )
    result.y = _placed(target.y, sum(counts), start)
    for name in _MASKS:
        if target.get(name) is not None:
            result[name] = _placed(target[name], sum(counts), start)
    return result


def join_types(graph: HeteroData) -> Data:
    """Return `from_hetero`'s graph without labels and masks.

    Raises:
        ValueError: when there are no edges.
    """
    counts = _counts(graph)
    first = dict(zip(graph.node_types, _starts(counts), strict=True))
    result = Data(x=_block_features(graph, counts), node_type=_repeat_index(counts))
    result.edge_index, result.edge_type = _edges(graph, first)
    return result


def _counts(graph: HeteroData) -> list[int]:
    return [int(graph[name].num_nodes or 0) for name in graph.node_types]


def hetero_names(graph: HeteroData, id: str = "id") -> NodeNameList:
    """Return the names of the nodes and types of `from_hetero`'s graph.

    Args:
        graph: the graph.
        id: field of a type with the names of its nodes; without it they are numbered within a type.

    Raises:
        ValueError: when a type has another number of names than nodes.
    """
    names: list[Any] = []
    types: list[str] = []
    for name in graph.node_types:
        count, given = int(graph[name].num_nodes or 0), graph[name].get(id)
        own = list(range(count)) if given is None else as_list(given)
        if len(own) != count:
            raise ValueError(
                f"{name}: got {len(own)} names {id!r} for {count} nodes, expected one for each; "
                "correct them, or name another field by id"
            )
        names += own
        types += [name] * count
    return NodeNameList(names, types)


def as_list(values: Tensor | np.ndarray | Sequence[Any]) -> list[Any]:
    """Return the values of a field of `Data`, a tensor or a list, as a list."""
    return values.tolist() if isinstance(values, Tensor | np.ndarray) else list(values)


def _starts(counts: list[int]) -> list[int]:
    return [sum(counts[:number]) for number in range(len(counts))]


def _repeat_index(counts: list[int]) -> Tensor:
    return torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))


def _block_features(graph: HeteroData, counts: list[int]) -> Tensor:
    """Return the features of all nodes, those of each type in columns of their own."""
    blocks = []
    for name, count in zip(graph.node_types, counts, strict=True):
        x = graph[name].get("x")
        blocks.append(torch.ones(count, 1) if x is None else x.float().reshape(count, -1))
    return torch.block_diag(*blocks)


def _edges(graph: HeteroData, first: dict[str, int]) -> tuple[Tensor, Tensor]:
    """Return edge_index [2, E] over all nodes, and the type of each edge, [E]."""
    parts = []
    for source, relation, target in graph.edge_types:
        edges = graph[source, relation, target].edge_index
        parts.append(edges + torch.tensor([[first[source]], [first[target]]]))
    if not parts:
        raise ValueError("graph: got no edges, expected some; add them")
    return torch.cat(parts, dim=1), _repeat_index([part.shape[1] for part in parts])


def _placed(values: Tensor, num_nodes: int, start: int) -> Tensor:
    """Return values of one type's nodes for all nodes; False, 0.0 or -100 for the others."""
    has_index = values.dtype != torch.bool and not values.is_floating_point()
    fill = IGNORE_INDEX if has_index else 0
    result = values.new_full((num_nodes, *values.shape[1:]), fill)
    result[start : start + len(values)] = values
    return result
