"""PyG's explainers on graphformer's modules and on accelerated PyG layers."""

from __future__ import annotations

import copy

import pytest
import torch
import torch_geometric.nn as pyg
from helpers.awkward import random_edges
from torch import nn
from torch_geometric.explain import AttentionExplainer, Explainer, GNNExplainer

import graphformer as gf
from graphformer.pyg import AttentionWeights
from graphformer.pyg.explain import receptive_field

EDGES = random_edges(11, 11, 29)
X = torch.randn(11, 5, generator=torch.Generator().manual_seed(3))
SETTINGS = {
    "explanation_type": "model",
    "edge_mask_type": "object",
    "model_config": {
        "mode": "multiclass_classification",
        "task_level": "node",
        "return_type": "raw",
    },
}


class Ours(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = gf.nn.GraphAttention(5, 3, 2)
        self.second = gf.nn.MultiHeadAttention(6, 2)

    def forward(self, x, edge_index):
        return self.second(self.first(x, edge_index).relu(), edge_index)


class Theirs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = pyg.GATv2Conv(5, 3, 2, add_self_loops=False)
        self.second = pyg.TransformerConv(6, 3)

    def forward(self, x, edge_index):
        return self.second(self.first(x, edge_index).relu(), edge_index)


@pytest.mark.parametrize("reduce", ["max", "mean", "min"])
def test_our_attention_explains(reduce):
    net = Ours().eval()
    explainer = Explainer(net, AttentionWeights(reduce), **SETTINGS)
    mask = explainer(X, EDGES).edge_mask
    hidden, first = net.first(X, EDGES, return_weights=True)
    _, second = net.second(hidden.relu(), EDGES, return_weights=True)
    both = torch.cat([first, second], dim=1)
    torch.testing.assert_close(mask, getattr(both, {"mean": "mean"}.get(reduce, f"a{reduce}"))(1))
    one = explainer(X, EDGES, index=4).edge_mask
    reach = one > 0
    assert reach.any()
    torch.testing.assert_close(one[reach], mask[reach])
    assert not reach.all(), "edges further than two steps away do not count"


def test_gat_has_the_mask_of_pygs_explainer():
    """The same layers with the same weights: GATConv of PyG, GraphAttention of ours."""
    theirs = pyg.GATConv(5, 3, 2, add_self_loops=False).eval()
    ours = gf.nn.GraphAttention(5, 3, 2).eval()
    with torch.no_grad():
        ours.source.weight.copy_(theirs.lin.weight)
        ours.score.copy_(torch.cat([theirs.att_dst, theirs.att_src]))
    expected = Explainer(theirs, AttentionExplainer(), **SETTINGS)(X, EDGES, index=4).edge_mask
    found = Explainer(ours, AttentionWeights(), **SETTINGS)(X, EDGES, index=4).edge_mask
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("algorithm", [AttentionExplainer, lambda: GNNExplainer(epochs=3)])
def test_accelerated_layers_explain_as_before(algorithm):
    net = Theirs().eval()
    fused = gf.accelerate(copy.deepcopy(net), quiet=True)
    masks = []
    for model in (net, fused):
        torch.manual_seed(5)
        masks.append(Explainer(model, algorithm(), **SETTINGS)(X, EDGES, index=4).edge_mask)
    torch.testing.assert_close(*masks)


def test_gnn_explainer_of_features_and_its_error_for_edges():
    settings = {**SETTINGS, "edge_mask_type": None, "node_mask_type": "attributes"}
    found = Explainer(Ours(), GNNExplainer(epochs=3), **settings)(X, EDGES, index=4)
    assert found.node_mask.shape == X.shape
    with pytest.raises(ValueError, match="Could not compute gradients for edges"):
        Explainer(Ours(), GNNExplainer(epochs=3), **SETTINGS)(X, EDGES, index=4)


def test_models_without_our_attention():
    with pytest.raises(ValueError, match=r"got Theirs, which calls no attention"):
        Explainer(Theirs(), AttentionWeights(), **SETTINGS)(X, EDGES)
    with pytest.raises(ValueError, match="does not support the given explanation settings"):
        Explainer(Ours(), AttentionWeights(), **{**SETTINGS, "node_mask_type": "object"})


def test_unknown_reduce():
    with pytest.raises(ValueError, match="reduce: got 'median', expected 'max', 'mean' or 'min'"):
        AttentionWeights("median")


def test_receptive_field_follows_the_adjacencies_of_the_layers():
    path = gf.from_edge_index(torch.tensor([[0, 1, 2, 3], [1, 2, 3, 4]]), 5)
    assert receptive_field([path], 3, 5).tolist() == [False, False, True, True, False]
    assert receptive_field([path, path], 3, 5).tolist() == [False, True, True, True, False]
    assert receptive_field([path, path], torch.tensor([1, 4]), 5).tolist() == [1, 1, 1, 1, 1]
    jump = gf.from_edge_index(torch.tensor([[0], [3]]), 5)
    assert receptive_field([path, jump], 3, 5).tolist() == [True, False, True, True, False]
    assert receptive_field([jump, path], 3, 5).tolist() == [True, False, True, True, False]
    assert receptive_field([path, gf.complete(7)], 3, 5).all(), "over other nodes"


def test_attention_over_other_edges_than_those_of_the_data():
    """Over the complete graph all nodes are within reach, however far along the data's edges."""

    class Dense(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = gf.nn.MultiHeadAttention(5, 1)

        def forward(self, x, edge_index):
            return self.attention(x, gf.complete(len(x)))

    path = torch.stack([torch.arange(10), torch.arange(1, 11)])
    mask = Explainer(Dense().eval(), AttentionWeights(), **SETTINGS)(X, path, index=0).edge_mask
    assert (mask > 0).all()
