"""Layer by layer and part by part is what the whole graph gives at once."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch_geometric.data import Data

from graphformer.models import gat, graph_transformer, residual_gat
from graphformer.nn import MultiHeadAttention
from graphformer.patterns import Edges, Window
from graphformer.tasks.graph.layerwise import layerwise, predict_whole_graph


@pytest.fixture
def graph() -> Data:
    generator = torch.Generator().manual_seed(0)
    edge_index = torch.randint(97, (2, 401), generator=generator)
    x = torch.randn(101, 5, generator=generator)  # the last nodes have no edges
    return Data(x=x, edge_index=edge_index, lengths=(101,))


@pytest.mark.parametrize("self_loops", [False, True])
@pytest.mark.parametrize(
    "network",
    [
        gat(5, 3, dim=7, num_heads=2),
        gat(5, 3, dim=7, num_heads=2, v2=True, depth=3),
        residual_gat(5, 3, dim=14, num_heads=2, separate_ego=True),
        graph_transformer(5, 3, dim=14, num_heads=2, depth=3),
    ],
    ids=["gat", "gatv2", "residual_gat", "graph_transformer"],
)
def test_whole_graph(graph: Data, network: nn.Module, self_loops: bool) -> None:
    adjacency = Edges(self_loops)(graph).to_csr()
    network.eval()
    with torch.no_grad():
        expected = network(graph, adjacency)
    got = predict_whole_graph(network, graph, adjacency, batch_size=23)
    torch.testing.assert_close(got, expected)


def test_any_layers(graph: Data) -> None:
    layers = [MultiHeadAttention(5, 1), MultiHeadAttention(5, 5)]
    adjacency = Edges()(graph).to_csr()
    expected = layers[1](layers[0](graph.x, adjacency), adjacency)
    got = layerwise(layers, graph.x, adjacency, batch_size=13)
    torch.testing.assert_close(got, expected)
    near = Window(2)(graph)
    got = layerwise(layers[:1], graph.x, near, batch_size=13)
    torch.testing.assert_close(got, layers[0](graph.x, near))
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        layerwise(layers, graph.x, adjacency, batch_size=0)


@pytest.mark.parametrize(
    ("network", "error", "message"),
    [
        (nn.Linear(5, 3), TypeError, "network must be a GAT or a Model"),
        (gat(5, 3, pool="mean"), ValueError, "one with a head"),
        (gat(5, 3, weighted=True), ValueError, "this GAT has edge features, kinds or weights"),
        (gat(5, 3, num_union_parts=2), ValueError, "must not read edge values"),
        (graph_transformer(5, 3, dim=4, jump="cat"), ValueError, "jumps"),
        (graph_transformer(5, 3, dim=4, weighted=True), ValueError, "edge values"),
        (graph_transformer(5, 3, dim=4, pool="mean"), ValueError, "pools"),
    ],
)
def test_what_cannot_be_done_so_is_refused(
    graph: Data, network: nn.Module, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        predict_whole_graph(network, graph, Edges()(graph).to_csr())
