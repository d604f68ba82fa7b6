"""Outputs for a whole graph, one layer at a time, where no whole layer fits into memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Data

from graphformer.adjacency import Adjacency, from_edge_index
from graphformer.data.graph.sampling import sample_neighbors
from graphformer.models import GAT, GraphModel, Model
from graphformer.nn import Transformer
from graphformer.patterns import AdjacencyLike, resolve_single

Layer = Callable[[Tensor, Adjacency], Tensor]


@torch.no_grad()
def layerwise(
    layers: Sequence[Layer], x: Tensor, adjacency: Adjacency, *, batch_size: int = 65_536
) -> Tensor:
    """Send all nodes through layers, a part of the nodes at a time; every edge counts, none twice.

    Memory grows with the nodes and with one part's neighbourhood, not with the edges of a layer
    times its width.

    Args:
        layers: `layer(x, adjacency)`, where a target's output depends on itself and its sources.
        x: features of all nodes, [N, C].
        adjacency: N x N.
        batch_size: targets a part.

    Returns:
        What the last layer gives, [N, K].

    Raises ValueError for a `batch_size` below 1.

    Source: Hamilton et al., 2017 (GraphSAGE), algorithm 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    for layer in layers:
        parts = [
            _targets(layer, x, adjacency, nodes)
            for nodes in torch.arange(adjacency.shape[0]).split(batch_size)
        ]
        x = torch.cat(parts)
    return x


def predict_whole_graph(
    network: nn.Module, graph: Data, adjacency: AdjacencyLike, *, batch_size: int = 65_536
) -> Tensor:
    """Outputs [N, K] of a GAT, or of a Transformer that reads no edge values, for all nodes.

    Args:
        network: built by `models.gat`, `residual_gat` or `graph_transformer`, one answer a node;
            it is put into evaluation mode.
        graph: with features `x` [N, F].
        adjacency: N x N, a pattern or an edge_index.
        batch_size: targets a part.

    Raises:
        TypeError: a network whose layers are not known.
        ValueError: a model that reads edge values, or pools.
    """
    network.eval()
    adjacency = resolve_single(adjacency, graph)
    with torch.no_grad():
        if isinstance(network, GAT):
            return layerwise(_gat_layers(network), graph.x, adjacency, batch_size=batch_size)
        if not isinstance(network, Model):
            raise TypeError(
                f"network must be a GAT or a Model, got {type(network).__name__}: call `layerwise` "
                "with its layers"
            )
        _check_blocks_alone(network)
        x = network.embedding(graph)
        x = layerwise(list(network.transformer.blocks), x, adjacency, batch_size=batch_size)
        x = network.transformer.norm(x)
        return x if network.head is None else network.head(x, graph)


def _check_blocks_alone(network: Model) -> None:
    """Refuse a model in which more than blocks, one after the other, reads the edges."""
    reads_edges = isinstance(network, GraphModel) and (not network.edges.empty or network.local)
    transformer = network.transformer
    positions = transformer.position_encoding is not None
    if reads_edges or positions or type(transformer) is not Transformer:
        raise ValueError(
            "network must send nodes through its blocks alone, but this one has edge values, local "
            "messages, relative positions or jumps: write its layers out for `layerwise`"
        )
    if getattr(network.head, "pool", None) is not None:
        raise ValueError("network must answer for nodes, but its head pools them")


def _gat_layers(network: GAT) -> list[Layer]:
    if network.head is not None:
        raise ValueError("network must answer for nodes by its last layer, got one with a head")
    if not all(edges.empty for edges in network.edges):
        raise ValueError(
            "network must not read edge values, but this GAT has edge features, kinds or weights: "
            "write its layers out for `layerwise`"
        )
    *hidden, last = network.layers
    return [*(_followed_by_elu(layer) for layer in hidden), last]


def _followed_by_elu(layer: nn.Module) -> Layer:
    return lambda x, adjacency: F.elu(layer(x, adjacency))


def _targets(layer: Layer, x: Tensor, adjacency: Adjacency, nodes: Tensor) -> Tensor:
    """One layer's outputs for some nodes, from these and their sources alone."""
    sample = sample_neighbors(adjacency, nodes, [-1])
    edges = from_edge_index(sample.edge_index, len(sample.nodes), coalesce=False)
    return layer(x[sample.nodes], edges)[: len(nodes)]
