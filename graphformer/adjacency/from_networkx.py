"""Adjacencies of networkx graphs, and the attributes of their nodes and edges as tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from graphformer.adjacency.csr import CSR
from graphformer.adjacency.edge_values import edge_values

if TYPE_CHECKING:
    import networkx


def from_networkx(G: networkx.Graph) -> CSR:
    """Return the adjacency of a networkx graph, nodes numbered in the order of `G.nodes`.

    With an arc u -> v, v attends to u. An undirected edge becomes two; the reversed ones come after
    all others in the edge order. Parallel edges are coalesced. `networkx_values` reads attributes.

    Raises:
        TypeError: when `G` is not a networkx graph.
    """
    edges, _ = _arcs(G)
    return CSR.from_edges(edges, (len(G), len(G)))


def networkx_values(
    G: networkx.Graph, name: str, *, of: Literal["nodes", "edges"], default: float | None = None
) -> Tensor:
    """Return an attribute of a graph in the order of `from_networkx(G)`, [N, ...] or [E, ...].

    The value of an undirected edge applies to both directions.

    Args:
        G: the graph.
        name: the attribute; its values are numbers, or sequences of numbers of one length.
        of: whether it is an attribute of nodes or edges.
        default: the value where the attribute is missing.

    Raises:
        KeyError: when the attribute is missing somewhere and there is no default.
        ValueError: when parallel edges have different values, or values are not numbers or have
            several lengths.
    """
    if of not in ("nodes", "edges"):
        raise ValueError(f"of: got {of!r}, expected 'nodes' or 'edges'; use one of them")
    edges, attributes = _arcs(G)
    if of == "nodes":
        attributes = [values for _, values in G.nodes(data=True)]
    missing = sum(name not in values for values in attributes)
    if missing and default is None:
        raise KeyError(
            f"name: got {name!r}, which {missing} of {len(attributes)} {of} do not have, expected "
            "an attribute of all; pass a default"
        )
    values = [each.get(name, default) for each in attributes]
    try:
        tensor = torch.tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"name: got {name!r} of {of} with values such as {values[0]!r}, expected numbers or "
            f"sequences of one length ({error}); convert them to numbers first"
        ) from None
    return tensor if of == "nodes" else edge_values(from_networkx(G), edges, tensor)


def _arcs(G: networkx.Graph) -> tuple[Tensor, list[dict[str, Any]]]:
    """All arcs [2, E], undirected edges in both directions, parallel ones separate; attributes."""
    if not hasattr(G, "is_directed"):
        raise TypeError(
            f"G: got {type(G).__name__}, expected a networkx graph; for an edge list use "
            "graphformer.from_edge_index"
        )
    number = {node: i for i, node in enumerate(G.nodes)}
    arcs = list(G.edges(data=True))
    pairs = torch.tensor([(number[u], number[v]) for u, v, _ in arcs], dtype=torch.int64)
    edges, attributes = pairs.reshape(-1, 2).T, [values for *_, values in arcs]
    if G.is_directed():
        return edges, attributes
    no_loop = edges[0] != edges[1]
    attributes += [each for each, add in zip(attributes, no_loop.tolist(), strict=True) if add]
    return torch.cat([edges, edges.flip(0)[:, no_loop]], dim=1), attributes
