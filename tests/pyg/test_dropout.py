"""The fused dropout within the forward pass of accelerated models."""

from __future__ import annotations

import copy
import importlib
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch_geometric.nn import GATConv

import graphformer as gf
from graphformer.data.graph.sparse_features import SparseFeatures

NODES, WIDTH = 211, 97  # more than `ops.dropout.MIN_ELEMENTS` numbers


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Dropout(0.5)
        self.conv = GATConv(WIDTH, 3, heads=2)

    def forward(self, x, edge_index, fail=False):
        if fail:
            raise RuntimeError("on purpose")
        x = F.dropout(x, p=0.5, training=self.training)
        return self.conv(self.layer(x), edge_index)


@pytest.fixture
def calls(monkeypatch):
    """The number of fused dropouts so far."""
    recorded = []
    drop = importlib.import_module("graphformer.ops.dropout")  # `ops.dropout` is the function
    real = drop.drop

    def counted(*args):
        recorded.append(args)
        return real(*args)

    monkeypatch.setattr(drop, "drop", counted)
    return recorded


@pytest.fixture
def inputs():
    return torch.randn(NODES, WIDTH), torch.randint(NODES, (2, 501))


def test_both_kinds_of_dropout_are_fused_in_training_only(calls, inputs):
    model = gf.accelerate(Net(), quiet=True)
    model(*inputs).sum().backward()
    assert len(calls) == 2
    assert torch.isfinite(model.conv.lin.weight.grad).all()
    model.eval()
    model(*inputs)
    assert len(calls) == 2


def test_nothing_outside_the_model_changes(calls, inputs):
    model = gf.accelerate(Net(), quiet=True)
    model(*inputs)
    before = len(calls)
    F.dropout(inputs[0])
    Net()(*inputs)
    assert len(calls) == before


def test_disabled_after_an_error(calls, inputs):
    model = gf.accelerate(Net(), quiet=True)
    with pytest.raises(RuntimeError, match="on purpose"):
        model(*inputs, fail=True)
    F.dropout(inputs[0])
    assert not calls


def test_an_error_in_an_earlier_hook_is_the_only_one(inputs):
    model = Net()

    def refuse(*args):
        raise RuntimeError("too early")

    model.register_forward_pre_hook(refuse)
    gf.accelerate(model, quiet=True)
    with pytest.raises(RuntimeError, match="too early"):  # and no warning of an error in ours
        model(*inputs)


def test_applied_twice_and_copied(calls, inputs):
    model = gf.accelerate(gf.accelerate(Net(), quiet=True), quiet=True)
    assert len(model._forward_hooks) == len(model._forward_pre_hooks) == 1
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        calls.clear()
        other(*inputs)
        assert len(calls) == 2


def test_not_replaced_on_request_or_in_place(calls, inputs):
    gf.accelerate(Net(), dropout=False, quiet=True)(*inputs)
    model = Net()
    model.layer.inplace = True
    gf.accelerate(model, quiet=True)(*inputs)
    assert len(calls) == 1


def test_the_summary_mentions_dropout(capsys):
    gf.accelerate(Net())
    assert "dropout in Net is fused" in capsys.readouterr().err
    gf.accelerate(nn.Linear(2, 3))
    assert "dropout" not in capsys.readouterr().err


def test_reproducible_by_seed(inputs):
    model = gf.accelerate(Net(), quiet=True)
    results = []
    for _ in range(2):
        torch.manual_seed(7)
        results.append(model(*inputs))
    assert torch.equal(*results)


def test_compiles(inputs):
    model = gf.accelerate(Net(), quiet=True)
    y = torch.compile(model, backend="aot_eager")(*inputs)
    assert y.shape == (NODES, 6)
    model(*inputs)


def test_sparse_features_keep_their_own_dropout(calls):
    x = SparseFeatures(torch.randn(NODES, WIDTH).relu())
    model = gf.accelerate(Wide(), quiet=True)
    model(x).sum().backward()
    assert not calls
    assert torch.isfinite(model.linear.weight.grad).all()


class Wide(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(WIDTH, 3)
        self.conv = GATConv(3, 3)  # accelerate needs a layer to replace

    def forward(self, x):
        x = F.dropout(x, training=self.training)
        assert isinstance(x, SparseFeatures)
        return self.linear(x)
