"""Graph attention against PyG's layers, with the same weights."""

from __future__ import annotations

import pytest
import torch
import torch_geometric.nn as pyg
from helpers.attention_modules import assert_same_results, copy_weights, count_calls, randn
from helpers.awkward import random_edges

import graphformer as gf


def graph_pair(cls, *, concat, v2, bias=True, in_dim=5, edge_dim=None):
    same = {"concat": concat, "bias": bias, "edge_dim": edge_dim}
    ours = gf.nn.GraphAttention(in_dim, 7, 3, v2=v2, **same).double()
    other = cls(in_dim, 7, 3, add_self_loops=False, **same).double()
    if v2:
        pairs = [
            (ours.source.weight, other.lin_l.weight),
            (ours.target.weight, other.lin_r.weight),
            (ours.score, other.att),
        ]
        if bias:
            pairs += [
                (ours.source.bias, other.lin_l.bias),
                (ours.target.bias, other.lin_r.bias),
            ]
    else:
        pairs = [(ours.source.weight, other.lin.weight)]
    if bias:
        pairs.append((ours.bias, other.bias))
    if edge_dim:
        pairs.append((ours.edge.weight, other.lin_edge.weight))
    copy_weights(pairs)
    if not v2:  # ours holds both scores in one
        with torch.no_grad():
            other.att_dst.copy_(ours.score[:1])
            other.att_src.copy_(ours.score[1:2])
            if edge_dim:
                other.att_edge.copy_(ours.score[2:])
    return ours, other, pairs


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("concat", [True, False])
@pytest.mark.parametrize(("cls", "v2"), [(pyg.GATConv, False), (pyg.GATv2Conv, True)])
def test_graph_attention_is_pygs(cls, v2, concat, bias):
    ours, other, pairs = graph_pair(cls, concat=concat, v2=v2, bias=bias)
    adjacency = gf.from_edge_index(random_edges(13, 13, 41), 13).with_self_loops()
    x = randn(13, 5)
    edges = adjacency.edge_index
    assert_same_results(lambda x: ours(x, adjacency), lambda x: other(x, edges), pairs, [x])
    if not v2:
        ours.zero_grad(), other.zero_grad()
        ours(x, adjacency).square().sum().backward()
        other(x, edges).square().sum().backward()
        torch.testing.assert_close(ours.score.grad[:1], other.att_dst.grad)
        torch.testing.assert_close(ours.score.grad[1:], other.att_src.grad)


@pytest.mark.parametrize(("cls", "v2"), [(pyg.GATConv, False), (pyg.GATv2Conv, True)])
def test_features_of_edges_are_pygs(cls, v2):
    ours, other, pairs = graph_pair(cls, concat=True, v2=v2, edge_dim=2)
    adjacency = gf.from_edge_index(random_edges(13, 13, 41), 13)
    x, features = randn(13, 5), randn(adjacency.num_edges, 2)
    assert_same_results(
        lambda x, features: ours(x, adjacency, edge_attr=features),
        lambda x, features: other(x, adjacency.edge_index, features),
        pairs,
        [x, features],
    )


def test_features_of_edges_go_with_their_width():
    adjacency, x = gf.window(7, 1), torch.randn(7, 5)
    with pytest.raises(ValueError, match="edge_attr: got None and edge_dim=2"):
        gf.nn.GraphAttention(5, 7, 3, edge_dim=2)(x, adjacency)
    with pytest.raises(ValueError, match="edge_attr: got a tensor and edge_dim=None"):
        gf.nn.GraphAttention(5, 7, 3)(x, adjacency, edge_attr=torch.randn(adjacency.num_edges, 2))


@pytest.mark.parametrize("v2", [False, True])
def test_an_edge_weight_and_a_bias_change_the_logits(v2):
    layer = gf.nn.GraphAttention(5, 7, 3, v2=v2)
    adjacency, x = gf.window(7, 2), torch.randn(7, 5)
    _, before = layer(x, adjacency, return_weights=True)
    bias = torch.zeros(adjacency.num_edges, 3)
    bias[adjacency.edge_index[0] == 4] = -torch.inf
    _, after = layer(x, adjacency, bias=bias, return_weights=True)
    assert (after[adjacency.edge_index[0] == 4] == 0).all()
    _, even = layer(x, adjacency, edge_weight=bias.zero_(), return_weights=True)
    degree = torch.bincount(adjacency.edge_index[1])[adjacency.edge_index[1]]
    torch.testing.assert_close(even, (1 / degree).unsqueeze(1).expand_as(even))
    assert not torch.allclose(before, after)


@pytest.mark.parametrize(("cls", "v2"), [(pyg.GATConv, False), (pyg.GATv2Conv, True)])
def test_self_loops_are_those_that_pyg_adds(cls, v2):
    ours, other, _ = graph_pair(cls, concat=True, v2=v2)
    other.add_self_loops = True
    edges, x = random_edges(13, 13, 41), randn(13, 5)
    adjacency = gf.from_edge_index(edges, 13).with_self_loops()
    torch.testing.assert_close(ours(x, adjacency), other(x, edges))


@pytest.mark.parametrize(("cls", "v2"), [(pyg.GATConv, False), (pyg.GATv2Conv, True)])
def test_graph_attention_from_sources_to_targets_is_pygs(cls, v2):
    ours, other, pairs = graph_pair(cls, concat=True, v2=v2)
    edges = random_edges(5, 11, 23)
    adjacency = gf.from_edge_index(edges, (5, 11))
    assert_same_results(
        lambda x, source: ours(x, adjacency, source),
        lambda x, source: other((source, x), edges),
        pairs,
        [randn(5, 5), randn(11, 5)],
    )


def test_returned_weights_are_pygs():
    ours, other, _ = graph_pair(pyg.GATConv, concat=True, v2=False)
    edges, x = random_edges(13, 13, 41), randn(13, 5)
    _, weights = ours(x, gf.from_edge_index(edges, 13), return_weights=True)
    _, (_, expected) = other(x, edges, return_attention_weights=True)
    torch.testing.assert_close(weights, expected)


def test_the_core_of_pygs_transformer_conv():
    conv = pyg.TransformerConv(5, 7, heads=3, root_weight=False).double()
    edges, x = random_edges(13, 13, 41), randn(13, 5)
    q, k, v = (
        linear(x).unflatten(1, (3, 7)) for linear in (conv.lin_query, conv.lin_key, conv.lin_value)
    )
    out = gf.attention(q, k, v, gf.from_edge_index(edges, 13)).flatten(1)
    torch.testing.assert_close(out, conv(x, edges))


@pytest.mark.parametrize("v2", [False, True])
def test_under_autocast(v2):
    layer = gf.nn.GraphAttention(5, 7, 3, v2=v2)
    x, adjacency = torch.randn(11, 5), gf.window(11, 2)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(x, adjacency)
    out.sum().backward()
    torch.testing.assert_close(out.float(), layer(x, adjacency), rtol=0.05, atol=0.05)


def test_hooks_of_edge_maps_are_called():
    adjacency = gf.window(7, 1)
    x, features = torch.randn(7, 5), torch.randn(adjacency.num_edges, 2)
    for v2 in (False, True):
        layer = gf.nn.GraphAttention(5, 7, 3, v2=v2, edge_dim=2)
        expected = layer(x, adjacency, edge_attr=features)
        calls = count_calls(layer)
        torch.testing.assert_close(layer(x, adjacency, edge_attr=features), expected)
        assert all(calls.values())
