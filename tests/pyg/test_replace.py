"""`accelerate` replaces layers in place and keeps outputs, state and behaviour of the model."""

from __future__ import annotations

import copy
import io
import logging
import pickle

import pytest
import torch
from helpers.twins import DE, LAYERS, C, E, F, H, M, N, assert_same, edges, randn, twins
from torch import nn
from torch_geometric.data import HeteroData
from torch_geometric.nn import (
    GAT,
    GATConv,
    GATv2Conv,
    GCNConv,
    HeteroConv,
    Sequential,
    TransformerConv,
    to_hetero,
)

import graphformer as gf
from graphformer.pyg import FusedGATConv


@pytest.mark.parametrize("kind", LAYERS)
def test_same_object_state_and_class_tree(kind):
    conv = kind(F, C, heads=H, edge_dim=DE)
    before = {name: p.data_ptr() for name, p in conv.state_dict().items()}
    seen = []
    conv.register_forward_hook(lambda *args: seen.append(args))
    ours = gf.accelerate(conv, quiet=True)
    assert ours is conv
    assert type(ours) is LAYERS[kind]
    assert isinstance(ours, kind)
    assert {name: p.data_ptr() for name, p in ours.state_dict().items()} == before
    ours(torch.randn(N, F), edges(), torch.randn(E, DE))
    assert len(seen) == 1
    kind(F, C, heads=H, edge_dim=DE).load_state_dict(ours.state_dict())


@pytest.mark.parametrize("kind", LAYERS)
def test_copies_and_pickles(kind, fused):
    conv = gf.accelerate(kind(F, C, heads=H), quiet=True)
    x, edge_index = torch.randn(N, F), edges()
    expected = conv(x, edge_index)
    file = io.BytesIO()
    torch.save(conv, file)
    file.seek(0)
    copies = [
        copy.deepcopy(conv),
        pickle.loads(pickle.dumps(conv)),
        torch.load(file, weights_only=False),
    ]
    fused()
    for other in copies:
        assert type(other) is LAYERS[kind]
        torch.testing.assert_close(other(x, edge_index), expected, rtol=0, atol=0)


def test_applied_again_it_changes_nothing(capsys):
    model = gf.accelerate(GAT(F, H * C, 2, heads=H))
    assert "replaced 2 of 2 attention layers in GAT" in capsys.readouterr().err
    kinds = [type(m) for m in model.modules()]
    assert [type(m) for m in gf.accelerate(model).modules()] == kinds
    summary = capsys.readouterr().err
    assert "replaced 0 of 2" in summary
    assert "fused before: convs.0 (FusedGATConv)" in summary


class Weighted(GATConv):
    def message(self, x_j, alpha):
        return 2 * alpha.unsqueeze(-1) * x_j


def test_layers_that_are_not_replaced(capsys):
    own = GATConv(F, F)
    own.message = lambda x_j, alpha: x_j
    model = nn.ModuleDict(
        {
            "subclass": Weighted(F, F),
            "own": own,
            "flow": GATv2Conv(F, F, flow="target_to_source"),
            "mean": TransformerConv(F, F, aggr="mean"),
            "gcn": GCNConv(F, F),
            "good": GATConv(F, F),
        }
    )
    gf.accelerate(model)
    summary = capsys.readouterr().err
    assert "graphformer: replaced 1 of 5 attention layers in ModuleDict: good (GATConv)" in summary
    assert "not replaced: subclass (Weighted): a subclass" in summary
    assert "not replaced: own (GATConv): it overrides message" in summary
    assert "not replaced: flow (GATv2Conv): flow is 'target_to_source'" in summary
    assert "not replaced: mean (TransformerConv): aggr is 'mean'" in summary
    assert "GCNConv x 1" in summary
    kinds = {name: type(module) for name, module in model.items()}
    assert kinds.pop("good") is FusedGATConv
    assert not set(kinds.values()) & set(LAYERS.values())


def test_the_summary_is_logged_instead_of_printed(caplog, capsys):
    with caplog.at_level(logging.INFO, logger="graphformer"):
        gf.accelerate(GCNConv(F, C))
    assert "found no GATConv, GATv2Conv or TransformerConv in GCNConv" in caplog.text
    assert not capsys.readouterr().err


def test_quiet_and_wrong_type(capsys):
    gf.accelerate(GATConv(F, C), quiet=True)
    assert not capsys.readouterr().err
    with pytest.raises(TypeError, match="model: got str, expected a torch.nn.Module"):
        gf.accelerate("GAT")


@pytest.mark.parametrize("v2", [False, True])
def test_whole_models(v2):
    edge_index = edges()
    gat = GAT(F, H * C, 3, out_channels=2, heads=H, v2=v2, edge_dim=DE, jk="cat", norm="LayerNorm")
    inputs = [randn(N, F), randn(E, DE, seed=1)]
    assert_same(gat, inputs, lambda m, x, e: m(x, edge_index, edge_attr=e))
    chain = Sequential(
        "x, edge_index",
        [
            (GATConv(F, C, heads=H), "x, edge_index -> x"),
            nn.ELU(),
            nn.Linear(H * C, F),
            (TransformerConv(F, C), "x, edge_index -> x"),
        ],
    )
    assert_same(chain, inputs[:1], lambda m, x: m(x, edge_index))


def hetero() -> HeteroData:
    data = HeteroData()
    data["user"].x, data["item"].x = randn(N, F), randn(M, F, seed=2)
    data["user", "buys", "item"].edge_index = edges(N, M)
    data["item", "bought_by", "user"].edge_index = edges(N, M).flip(0)
    return data


def test_heterogeneous_models():
    data = hetero()
    options = {"add_self_loops": False, "heads": H}
    conv = HeteroConv(
        {
            ("user", "buys", "item"): GATConv((F, F), C, **options),
            ("item", "bought_by", "user"): GATv2Conv((F, F), C, **options),
        }
    )
    inputs = [data["user"].x, data["item"].x]

    def run(m, user, item):
        out = m({"user": user, "item": item}, data.edge_index_dict)
        return out["user"], out["item"]

    assert_same(conv, inputs, run)
    whole = to_hetero(GAT((F, F), C, 2, add_self_loops=False), data.metadata(), aggr="sum")
    assert_same(whole, inputs, run)


def test_to_hetero_of_an_accelerated_model():
    data = hetero()
    model = gf.accelerate(GAT((F, F), C, 2, add_self_loops=False), quiet=True).double()
    whole = to_hetero(model, data.metadata())
    assert sum(isinstance(m, FusedGATConv) for m in whole.modules()) == 4
    assert whole(data.x_dict, data.edge_index_dict)["item"].shape == (M, C)


def test_the_same_loss_curve():
    torch.manual_seed(7)
    theirs, ours = twins(GAT(F, H * C, 2, out_channels=4, heads=H))
    x, edge_index, y = randn(N, F), edges(), torch.arange(N) % 4
    curves = []
    for model in (theirs, ours):
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        curve = []
        for _ in range(31):
            loss = nn.functional.cross_entropy(model(x, edge_index), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            curve.append(loss.detach())
        curves.append(torch.stack(curve))
    torch.testing.assert_close(*curves, rtol=1e-7, atol=1e-7)
    assert curves[0][-1] < 0.7 * curves[0][0]
