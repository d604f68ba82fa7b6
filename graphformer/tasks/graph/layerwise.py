"""Outputs for a whole graph, layer by layer and in parts of the nodes, to bound memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from graphformer.adjacency import CSR, Adjacency, HeadEdges, from_edge_index
from graphformer.data.graph.sampling import sample_neighbors
from graphformer.models.base import AdjacencyModel, NodeLayer
from graphformer.patterns import AdjacencyLike

if TYPE_CHECKING:
    from graphformer.batch_type import BatchLike

Layer = Callable[[Tensor, Adjacency], Tensor]


@torch.no_grad()
def layerwise(
    layers: Sequence[Layer], x: Tensor, adjacency: Adjacency, *, batch_size: int = 65_536
) -> Tensor:
    """Apply layers to all nodes, one layer after the other, in parts of the nodes.

    A part needs its nodes and their sources only, so each edge is computed once a layer, and memory
    is O(N C) plus that of one part, instead of O(E C).

    Args:
        layers: `layer(x, adjacency)`, whose output at a node depends on the node and its sources.
        x: features of all nodes, [N, C].
        adjacency: N x N.
        batch_size: nodes in a part.

    Returns:
        The output of the last layer, [N, K].

    Raises:
        ValueError: for a `batch_size` below 1.

    Source: Hamilton et al., 2017 (GraphSAGE), algorithm 1.
    """
    edges = adjacency.to_csr()
    for layer in layers:
        x = _apply(NodeLayer(layer, {}), x, edges, batch_size)
    return x


def predict_whole_graph(
    network: nn.Module,
    graph: BatchLike,
    adjacency: AdjacencyLike | None = None,
    *,
    batch_size: int = 65_536,
) -> Tensor:
    """Return the output of a model for a whole graph, computed layer by layer.

    GAT and the graph transformers are computed in parts of the nodes, as by `layerwise`. Models
    with message passing along `edge_index` (GPS) are computed layer by layer, with all nodes at
    once; others, such as GCN, in one call.

    Args:
        network: a model of `graphformer.models`; it is switched to evaluation mode.
        graph: with features `x` [N, F] and the fields that the model reads.
        adjacency: N x N, a pattern or an edge_index, or one of these for each layer; that of the
            model by default.
        batch_size: nodes in a part.

    Raises:
        TypeError: when the network is not a model over an adjacency.
        ValueError: for a `batch_size` below 1, and when the graph lacks a field.
    """
    if not isinstance(network, AdjacencyModel):
        raise TypeError(
            f"network: got {type(network).__name__}, expected a model of graphformer.models; call "
            "layerwise() with the layers of other networks"
        )
    network.eval()
    with torch.no_grad():
        # In canonical order an edge's number is its slot, by which its values are indexed.
        resolved = network.resolve_adjacency(graph, adjacency)
        parts = [resolved] if isinstance(resolved, Adjacency) else resolved
        edges = [part.to_csr().canonical() for part in parts]
        sequences = [network.layer_sequence(graph, each) for each in edges]
        depth = len(sequences[0].layers)
        if len(edges) == 1:  # shared by all layers
            edges, sequences = edges * depth, sequences * depth
        x, states = sequences[0].x, []
        for number, (own, sequence) in enumerate(zip(edges, sequences, strict=True)):
            layer = sequence.layers[number]
            if sequence.is_local:
                x = _apply(layer, x, own, batch_size)
            else:
                x = layer.apply(x, own, **layer.edge_values)
            states.append(x)
        return sequences[0].output(states)


def _apply(layer: NodeLayer, x: Tensor, adjacency: CSR, batch_size: int) -> Tensor:
    """Return a layer's output for all nodes, [N, C], from parts of `batch_size` nodes."""
    if batch_size < 1:
        raise ValueError(f"batch_size: got {batch_size}, expected 1 or more")
    parts = torch.arange(adjacency.shape[0]).split(batch_size)
    return torch.cat([_apply_to(layer, x, adjacency, nodes) for nodes in parts])


def _apply_to(layer: NodeLayer, x: Tensor, adjacency: CSR, nodes: Tensor) -> Tensor:
    """Return a layer's output for some nodes, [n, C], from them and their sources."""
    sample = sample_neighbors(adjacency, nodes, [-1])
    edges = from_edge_index(sample.edge_index, len(sample.nodes), coalesce=False)
    if isinstance(adjacency, HeadEdges) and adjacency.heads is not None:
        heads = adjacency.heads[sample.slots]
        edges = HeadEdges(edges.indptr, edges.indices, edges.shape, edges.edge_ids, heads=heads)
    values = {name: value[sample.slots] for name, value in layer.edge_values.items()}
    return layer.apply(x[sample.nodes], edges, **values)[: len(nodes)]
