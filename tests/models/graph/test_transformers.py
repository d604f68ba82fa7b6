"""Graph transformer and Graphormer: edge features, weights, encodings, errors."""

from __future__ import annotations

import pytest
import torch
from helpers.graph_models import CLASSES, F_EDGE, F_IN, graph, graphs
from torch import nn
from torch_geometric.data import Data

import graphformer as gf
from graphformer import models
from graphformer.data.graph.encodings import add_encodings
from graphformer.nn.graph import EdgeFeatureAttention, EgoSeparation
from graphformer.patterns import Complete, Edges, SelfLoops


@pytest.mark.parametrize("edge_bias", [False, True])
def test_edge_features_enter_keys_and_values_or_a_bias(edge_bias):
    model = models.graph_transformer(
        F_IN, CLASSES, 12, 1, 3, num_edge_features=F_EDGE, edge_bias=edge_bias
    ).eval()
    attention = model.transformer.blocks[0].attention
    assert isinstance(attention, EdgeFeatureAttention) is not edge_bias
    data = graph(11, 17)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    out = model(data, Edges())
    data.edge_attr = data.edge_attr * 2
    assert not torch.allclose(model(data, Edges()), out)


def test_weights_multiply_the_logits():
    model = models.graph_transformer(F_IN, CLASSES, 12, 1, 3, weighted=True).eval()
    nn.init.normal_(model.transformer.blocks[0].attention.qkv.weight)
    data = graph(11, 17)
    out = model(data, Edges())
    heavier = data.clone()
    heavier.edge_weight = data.edge_weight * 3
    assert not torch.allclose(model(heavier, Edges()), out)
    unweighted = data.clone()
    unweighted.edge_weight = torch.ones_like(data.edge_weight)
    plain = models.graph_transformer(F_IN, CLASSES, 12, 1, 3).eval()
    plain.load_state_dict(model.state_dict())
    torch.testing.assert_close(model(unweighted, Edges()), plain(data, Edges()))


def test_ego_separation_wraps_the_attention_of_each_block():
    model = models.graph_transformer(F_IN, CLASSES, 12, 2, 3, separate_ego=True)
    assert all(isinstance(block.attention, EgoSeparation) for block in model.transformer.blocks)


def test_graphormer_reads_degrees_and_distances():
    model = models.graphormer(F_IN, CLASSES, 12, 2, 3, max_degree=5, max_distance=3).eval()
    with torch.no_grad():
        model.edges.biases[0].table.normal_()
    (data,) = add_encodings([graph(11, 17)], ["degree:5", "shortest_path:3"])
    out = model(data, Complete())
    assert out.shape == (1, CLASSES)
    other = data.clone()
    other.in_degree = other.in_degree + 1
    assert not torch.allclose(model(other, Complete()), out)
    other = data.clone()
    other.path_length = (other.path_length + 1).clamp(max=3)
    assert not torch.allclose(model(other, Complete()), out)


def test_graphormer_with_a_virtual_node_reads_it_by_last():
    model = models.graphormer(
        F_IN, CLASSES, 12, 1, 3, max_degree=5, max_distance=3, virtual_node=True, pool="last"
    )
    (data, *_) = graphs("degree:5", "shortest_path:3", "virtual_node")
    assert model(data, Complete()).shape == (1, CLASSES)


def test_errors():
    with pytest.raises(ValueError, match="edge_bias: got True without num_edge_features"):
        models.graph_transformer(F_IN, CLASSES, edge_bias=True)
    with pytest.raises(ValueError, match="pool: got 'avg', expected one of mean, sum"):
        models.graph_transformer(F_IN, CLASSES, pool="avg")
    model, data = models.graphormer(F_IN, CLASSES, 12, 1, 3), graph(11, 17)
    with pytest.raises(ValueError, match="the model needs the encoding 'shortest_path:5'"):
        model(data, Complete()(data))


BUILDERS = [models.graph_transformer, models.gat, models.residual_gat]


@pytest.mark.parametrize("build", BUILDERS)
@pytest.mark.parametrize("pattern", [Edges(), Edges(self_loops=True), Edges() | SelfLoops()])
def test_parallel_edges_with_features(build, pattern):
    torch.manual_seed(0)
    network = build(5, 3, dim=8, num_heads=2, num_edge_features=2).eval()
    x, features = torch.randn(3, 5), torch.randn(5, 2)
    edges = torch.tensor([[0, 0, 2, 0, 1], [1, 1, 1, 2, 0]])
    order = torch.tensor([3, 1, 0, 4, 2])
    out = network(Data(x=x, edge_index=edges, edge_attr=features), pattern)
    other = Data(x=x, edge_index=edges[:, order], edge_attr=features[order])
    torch.testing.assert_close(network(other, pattern), out)
    single = Data(x=x, edge_index=edges[:, 1:], edge_attr=features[1:])
    assert not torch.allclose(network(single, pattern), out)


@pytest.mark.parametrize("build", BUILDERS)
def test_an_edge_whose_log_weight_is_a_bias(build):
    torch.manual_seed(0)
    modes = ("multiply", "log_bias")
    nets = {
        mode: build(5, 3, dim=8, num_heads=2, weighted=True, edge_weight_mode=mode).eval()
        for mode in modes
    }
    x, edges = torch.randn(3, 5), torch.tensor([[0, 1, 2, 1], [1, 1, 1, 0]])
    without = Data(x=x, edge_index=edges[:, [0, 1, 3]], edge_weight=torch.ones(3))
    zero = Data(x=x, edge_index=edges, edge_weight=torch.tensor([1.0, 1, 0, 1]))
    for mode, network in nets.items():
        is_absent = torch.allclose(network(zero, Edges()), network(without, Edges()))
        assert is_absent == (mode == "log_bias")
    weight = torch.tensor([1.0, 2, 0, 1], requires_grad=True)
    nets["log_bias"](Data(x=x, edge_index=edges, edge_weight=weight), Edges()).sum().backward()
    assert weight.grad.isfinite().all()
    # Weight 2 is the same as the edge given twice.
    twice = gf.from_edge_index(edges[:, [0, 1, 1, 3]], 3, coalesce=False)
    doubled = Data(x=x, edge_index=edges[:, [0, 1, 1, 3]], edge_weight=torch.ones(4))
    expected = nets["log_bias"](doubled, twice)
    network, weighted = nets["log_bias"], Data(x=x, edge_index=edges, edge_weight=weight.detach())
    torch.testing.assert_close(network(weighted, Edges()), expected)
    with pytest.raises(ValueError, match="edge_weight: got -1"):
        network(Data(x=x, edge_index=edges, edge_weight=-torch.ones(4)), Edges())
    with pytest.raises(ValueError, match="edge_weight_mode: got 'log'"):
        build(5, 3, weighted=True, edge_weight_mode="log")
