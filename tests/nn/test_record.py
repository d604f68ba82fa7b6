"""Recorded attention, and its picture."""

from __future__ import annotations

import matplotlib.image
import pytest
import torch
from helpers.awkward import random_edges
from torch import nn

import graphformer as gf
from graphformer.nn import GraphAttention, MultiHeadAttention, draw_attention, record_attention
from graphformer.nn.record import weights_on_edges

EDGES = random_edges(11, 11, 37)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = GraphAttention(5, 3, 2)
        self.second = MultiHeadAttention(6, 3)

    def forward(self, x, edges):
        return self.second(self.first(x, edges), edges)


@pytest.mark.parametrize("edges", [EDGES, gf.from_edge_index(EDGES, 11), gf.complete([4, 7])])
def test_weights_are_recorded_and_outputs_are_unchanged(edges):
    net, x = Net().eval(), torch.randn(11, 5)
    expected = net(x, edges)
    with record_attention(net) as recorded:
        torch.testing.assert_close(net(x, edges), expected)
    assert [record.name for record in recorded] == ["first", "second"]
    hidden, first = net.first(x, edges, return_weights=True)
    torch.testing.assert_close(recorded[0].weights, first)
    torch.testing.assert_close(
        recorded[1].weights, net.second(hidden, edges, return_weights=True)[1]
    )
    net(x, edges)
    assert len(recorded) == 2, "only within the block"


def test_requested_weights_are_returned():
    attention, x = MultiHeadAttention(6, 3), torch.randn(11, 6)
    with record_attention(attention) as recorded:
        out, weights = attention(x, EDGES, return_weights=True)
        assert isinstance(attention(x, EDGES), torch.Tensor)
    assert out.shape == (11, 6)
    assert weights is recorded[0].weights
    assert len(recorded) == 2


def test_cross_attention_and_whole_transformers():
    attention = MultiHeadAttention(6, 3)
    with record_attention(attention) as recorded:
        attention(torch.randn(2, 6), gf.complete(2, 5), torch.randn(5, 6))
        attention((torch.randn(5, 6), torch.randn(2, 6)), gf.complete(2, 5))
    assert [record.weights.shape for record in recorded] == [(10, 3)] * 2
    transformer = gf.Transformer(6, 4, 3)
    with record_attention(transformer) as recorded:
        transformer(torch.randn(11, 6), EDGES)
    assert len(recorded) == 4


def test_weights_on_given_edges():
    net, x = Net(), torch.randn(11, 5)
    adjacency = gf.from_edge_index(EDGES, 11)
    with record_attention(net) as recorded:
        net(x, adjacency)
    order = [*range(36, -1, -1), 0, 1, 2]
    aligned = weights_on_edges(recorded, EDGES[:, order])
    for weights, record in zip(aligned, recorded, strict=True):
        torch.testing.assert_close(weights, record.weights[order])
    source, target = (~adjacency.to_mask()).nonzero().flip(1).T
    assert len(source) == 121 - 37
    assert not weights_on_edges(recorded, torch.stack([source, target]))[0].any()


@pytest.mark.parametrize("weights", [torch.rand(37), torch.rand(37, 2), torch.zeros(37)])
def test_a_picture(tmp_path, weights):
    path = tmp_path / "attention.png"
    draw_attention(gf.from_edge_index(EDGES, 11), weights, path)
    picture = matplotlib.image.imread(path)
    assert min(picture.shape[:2]) > 500
    assert picture[..., :3].std() > 0.02, "something is on it"


def test_pictures_of_awkward_graphs(tmp_path):
    for nodes in (0, 1):
        empty = gf.from_edge_index(torch.empty(2, 0, dtype=torch.int64), nodes)
        draw_attention(empty, torch.empty(0), tmp_path / "a.png")
    place = torch.rand(11, 2)
    names = [f"n{i}" for i in range(11)]
    adjacency = gf.from_edge_index(EDGES, 11)
    draw_attention(
        adjacency, torch.rand(37), tmp_path / "b.png", labels=names, positions=place, most_edges=5
    )
    with pytest.raises(ValueError, match="adjacency: got 2 x 5, expected a square one"):
        draw_attention(gf.complete(2, 5), torch.rand(10), tmp_path / "c.png")
    with pytest.raises(ValueError, match="expected a row for each of the 37 edges"):
        draw_attention(adjacency, torch.rand(36), tmp_path / "c.png")
