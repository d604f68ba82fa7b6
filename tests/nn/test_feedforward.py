"""Gated nets and mixtures of experts against their formulas."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from graphformer.nn import GatedFeedForward, MixtureOfExperts, QuickGELU, balance_loss

DIM, HIDDEN, EXPERTS = 5, 7, 11


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


def mixture(**options):
    torch.manual_seed(3)
    settings = {"num_experts": EXPERTS, "top_k": 3, "gated": True, **options}
    return MixtureOfExperts(DIM, HIDDEN, **settings).double()


def dense(net, x):
    """Every expert on every node, then the weighted sum of the best."""

    def expert(number):
        hidden = x @ net.up[number].T
        if net.gated:
            gate, up = hidden.split(HIDDEN, -1)
            return (F.silu(gate) * up) @ net.down[number].T
        return F.gelu(hidden) @ net.down[number].T

    probability = (x @ net.router.weight.T).softmax(-1)
    best = probability.sort(dim=-1, descending=True).indices[:, : net.top_k]
    chosen = torch.zeros_like(probability).scatter(1, best, 1.0)
    weights = probability * chosen
    weights = weights / weights.sum(-1, keepdim=True)
    outputs = torch.stack([expert(number) for number in range(EXPERTS)], dim=1)
    shared = sum((expert(EXPERTS + i) for i in range(net.num_shared)), torch.zeros_like(x))
    return (weights.unsqueeze(-1) * outputs).sum(1) + shared, probability, chosen


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("num_shared", [0, 2])
def test_routing_is_the_dense_sum(gated, num_shared):
    net = mixture(gated=gated, num_shared=num_shared)
    x = torch.randn(29, DIM, dtype=torch.float64)
    leaves = [x.clone().requires_grad_() for _ in range(2)]
    out, (expected, *_) = net(leaves[0]), dense(net, leaves[1])
    torch.testing.assert_close(out, expected, rtol=1e-6, atol=1e-7)  # the router is in float32
    cotangent = torch.randn_like(out)
    parameters = list(net.parameters())
    got = torch.autograd.grad((out * cotangent).sum(), [leaves[0], *parameters])
    want = torch.autograd.grad((expected * cotangent).sum(), [leaves[1], *parameters])
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_balance_is_one_where_experts_are_used_evenly_and_learns():
    net, x = mixture(), torch.randn(29, DIM, dtype=torch.float64)
    assert balance_loss(net) is None
    net(x)
    _, probability, chosen = dense(net, x)
    share = chosen.sum(0) / chosen.sum()
    expected = EXPERTS * (share * probability.mean(0)).sum()
    torch.testing.assert_close(balance_loss(net).double(), expected, rtol=1e-5, atol=1e-6)
    assert torch.autograd.grad(balance_loss(net), net.router.weight)[0].abs().sum() > 0
    even = MixtureOfExperts(4, HIDDEN, num_experts=4, top_k=1)
    nn.init.eye_(even.router.weight)
    even(50 * torch.eye(4).repeat(3, 1))
    torch.testing.assert_close(balance_loss(even), torch.tensor(1.0))


def test_balance_of_several_is_their_mean_and_no_copy_carries_it():
    both = nn.ModuleList([mixture(), mixture(top_k=1)])
    x = torch.randn(29, DIM, dtype=torch.float64)
    losses = [(net(x), net.balance_loss)[1] for net in both]
    torch.testing.assert_close(balance_loss(both), torch.stack(losses).mean())
    assert balance_loss(copy.deepcopy(both)) is None
    assert balance_loss(nn.Linear(3, 3)) is None
    net = mixture().eval()
    net(x)
    assert balance_loss(net) is None


def test_no_nodes():
    x = torch.zeros(0, DIM, dtype=torch.float64, requires_grad=True)
    out = mixture()(x)
    assert out.shape == (0, DIM)
    out.sum().backward()


@pytest.mark.parametrize("top_k", [0, 12])
def test_errors_name_the_argument(top_k):
    with pytest.raises(ValueError, match="top_k must be from 1 to num_experts 11"):
        mixture(top_k=top_k)
