"""Conversion of edges to a graph of networkx."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    import networkx

Attributes = Mapping[str, Tensor | Sequence[Any]]
"""Values by name of the attribute, one for each node or edge."""


def to_networkx(
    edge_index: Tensor,
    shape: tuple[int, int],
    is_coalesced: bool,
    *,
    nodes: Attributes,
    edges: Attributes,
) -> networkx.DiGraph:
    """Return what `Adjacency.to_networkx` documents, for edges [2, E] of M targets and N sources.

    Raises:
        ValueError: when the number of values is not that of the nodes or edges.
    """
    import networkx

    source, target = edge_index.tolist()
    graph, offset = _nodes_of(
        shape, networkx.DiGraph() if is_coalesced else networkx.MultiDiGraph()
    )
    arcs: list[tuple[int, ...]] = [(j, offset + i) for j, i in zip(source, target, strict=True)]
    keys = graph.add_edges_from(arcs)
    if not is_coalesced:
        arcs = [(*arc, key) for arc, key in zip(arcs, keys, strict=True)]
    for name, values in nodes.items():
        networkx.set_node_attributes(graph, _by_key(name, values, list(graph)), name)
    for name, values in edges.items():
        networkx.set_edge_attributes(graph, _by_key(name, values, arcs), name)
    return graph


def _nodes_of(shape: tuple[int, int], graph: networkx.DiGraph) -> tuple[networkx.DiGraph, int]:
    """Add the nodes to a graph, and return it with the number of the first target."""
    targets, sources = shape
    if targets == sources:
        graph.add_nodes_from(range(sources))
        return graph, 0
    graph.add_nodes_from(range(sources), bipartite=0)
    graph.add_nodes_from(range(sources, sources + targets), bipartite=1)
    return graph, sources


def _by_key(name: str, values: Tensor | Sequence, keys: list[Any]) -> dict[Any, Any]:
    """The values of an attribute by node or arc."""
    as_list = values.tolist() if isinstance(values, Tensor) else list(values)
    if len(as_list) != len(keys):
        raise ValueError(
            f"{name}: got {len(as_list)} values, expected {len(keys)}; give one for each"
        )
    return dict(zip(keys, as_list, strict=True))
