"""Feed-forward nets against their formulas."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from graphformer.nn import FeedForward, GatedFeedForward, QuickGELU

DIM, HIDDEN = 5, 7


def test_plain_net():
    net, x = FeedForward(DIM, HIDDEN, activation=nn.ReLU), torch.randn(3, DIM)
    hidden = (x @ net[0].weight.T + net[0].bias).relu()
    torch.testing.assert_close(net(x), hidden @ net[3].weight.T + net[3].bias)
    assert FeedForward(12)[0].out_features == 48
    assert FeedForward(DIM, bias=False)[0].bias is None


def test_hidden_units_are_dropped_in_training_only():
    for net in (FeedForward(DIM, 211, dropout=0.5), GatedFeedForward(DIM, 211, dropout=0.5)):
        x = torch.randn(3, DIM)
        assert not torch.equal(net(x), net(x))
        net.eval()
        assert torch.equal(net(x), net(x))


def test_swiglu():
    net, x = GatedFeedForward(DIM, HIDDEN), torch.randn(3, DIM)
    gate, up = net.gate_up.weight.split(HIDDEN)
    gate_bias, up_bias = net.gate_up.bias.split(HIDDEN)
    hidden = F.silu(x @ gate.T + gate_bias) * (x @ up.T + up_bias)
    torch.testing.assert_close(net(x), hidden @ net.out.weight.T + net.out.bias)
    assert GatedFeedForward(48).out.in_features == 128


def test_quick_gelu():
    x = torch.linspace(-3, 3, 17)
    torch.testing.assert_close(QuickGELU()(x), x * torch.sigmoid(1.702 * x))
