"""Outputs computed layer by layer, in parts of the nodes, equal those of one call."""

from __future__ import annotations

import pytest
import torch
from helpers.graph_models import BUILD, build_model
from torch import nn
from torch_geometric.data import Batch, Data

from graphformer.models import gat, gcn, graph_transformer, residual_gat
from graphformer.nn import MultiHeadAttention
from graphformer.patterns import Complete, Edges, PerHead, SelfLoops, Window
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
        graph_transformer(5, 3, dim=14, num_heads=2, depth=3, jump="cat"),
        gcn(5, 3, dim=14),
    ],
    ids=["gat", "gatv2", "residual_gat", "graph_transformer", "gcn"],
)
def test_a_graph_in_parts(graph: Data, network: nn.Module, self_loops: bool) -> None:
    pattern = Edges(self_loops)
    network.eval()
    with torch.no_grad():
        expected = network(graph, pattern)
    found = predict_whole_graph(network, graph, pattern, batch_size=23)
    torch.testing.assert_close(found, expected)
    assert not network.training


@pytest.mark.parametrize("name", BUILD)
@pytest.mark.parametrize("pattern", [Edges(), Complete(), Edges() | SelfLoops()], ids=str)
def test_all_models_with_all_edge_values(name: str, pattern: Edges) -> None:
    network, graphs = build_model(name)
    batch = Batch.from_data_list(graphs)
    network.eval()
    with torch.no_grad():
        expected = network(batch, pattern)
    found = predict_whole_graph(network, batch, pattern, batch_size=7)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_an_edge_index_in_place_of_a_pattern(graph: Data) -> None:
    network = gat(5, 3).eval()
    by_edge_index = predict_whole_graph(network, graph, graph.edge_index)
    torch.testing.assert_close(by_edge_index, predict_whole_graph(network, graph, Edges()))


def test_any_layers(graph: Data) -> None:
    layers = [MultiHeadAttention(5, 1), MultiHeadAttention(5, 5)]
    adjacency = Edges()(graph).to_csr()
    expected = layers[1](layers[0](graph.x, adjacency), adjacency)
    found = layerwise(layers, graph.x, adjacency, batch_size=13)
    torch.testing.assert_close(found, expected)
    near = Window(2)(graph)
    found = layerwise(layers[:1], graph.x, near, batch_size=13)
    torch.testing.assert_close(found, layers[0](graph.x, near))
    with pytest.raises(ValueError, match="batch_size: got 0, expected 1 or more"):
        layerwise(layers, graph.x, adjacency, batch_size=0)


def test_other_networks_are_refused(graph: Data) -> None:
    with pytest.raises(TypeError, match="network: got Linear, expected a model"):
        predict_whole_graph(nn.Linear(5, 3), graph, Edges())


def test_an_adjacency_per_layer_and_the_default_of_the_model():
    torch.manual_seed(0)
    graph = Data(x=torch.randn(7, 5), edge_index=torch.randint(7, (2, 19)))
    for build in (gat, graph_transformer):
        network = build(5, 3, depth=2).eval()
        per_layer = [graph.edge_index, Window(1)]
        found = predict_whole_graph(network, graph, per_layer, batch_size=3)
        torch.testing.assert_close(found, network(graph, per_layer))
        default = network.with_adjacency(Edges())
        torch.testing.assert_close(predict_whole_graph(default, graph), default(graph))


def test_edges_that_differ_by_head():
    torch.manual_seed(0)
    graph = Data(x=torch.randn(7, 5), edge_index=torch.randint(7, (2, 19)))
    network, heads = graph_transformer(5, 3, num_heads=2).eval(), PerHead((Edges(), Window(1)))
    found = predict_whole_graph(network, graph, heads, batch_size=3)
    torch.testing.assert_close(found, network(graph, heads))
