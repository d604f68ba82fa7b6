"""Mixtures of experts against their formula."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from graphformer.nn import GroupedRouter, MixtureOfExperts, balance_loss

DIM, HIDDEN, EXPERTS = 5, 7, 11


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
    if net.top_k > 1:
        weights = weights / weights.sum(-1, keepdim=True)
    outputs = torch.stack([expert(number) for number in range(EXPERTS)], dim=1)
    shared = sum((expert(EXPERTS + i) for i in range(net.num_shared)), torch.zeros_like(x))
    return (weights.unsqueeze(-1) * outputs).sum(1) + shared, probability, chosen


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("num_shared", [0, 2])
@pytest.mark.parametrize("top_k", [1, 3])
def test_routing_is_the_dense_sum(gated, num_shared, top_k):
    net = mixture(gated=gated, num_shared=num_shared, top_k=top_k)
    x = torch.randn(29, DIM, dtype=torch.float64)
    leaves = [x.clone().requires_grad_() for _ in range(2)]
    out, (expected, *_) = net(leaves[0]), dense(net, leaves[1])
    torch.testing.assert_close(out, expected, rtol=1e-6, atol=1e-7)  # the router is in float32
    cotangent = torch.randn_like(out)
    parameters = list(net.parameters())
    assert (
        torch.autograd.grad(out.sum(), net.router.weight, retain_graph=True)[0].abs().max() > 1e-3
    )
    got = torch.autograd.grad((out * cotangent).sum(), [leaves[0], *parameters])
    want = torch.autograd.grad((expected * cotangent).sum(), [leaves[1], *parameters])
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_balance_loss_is_its_formula_and_trains_the_router():
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


def test_balance_loss_of_several_is_their_mean_and_is_not_copied():
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
    with pytest.raises(ValueError, match=f"top_k: got {top_k}, expected .* to num_experts 11"):
        mixture(top_k=top_k)


def test_default_widths_and_initial_weights():
    torch.manual_seed(3)
    gated = MixtureOfExperts(12, num_experts=3, num_shared=2)
    assert gated.up.shape == (5, 64, 12)
    assert gated.down.shape == (5, 12, 32)
    plain = MixtureOfExperts(12, num_experts=3, gated=False)
    assert plain.up.shape == (3, 48, 12)
    assert isinstance(gated.activation, nn.SiLU)
    assert isinstance(plain.activation, nn.GELU)
    assert isinstance(MixtureOfExperts(3, num_experts=2, activation=nn.ReLU).activation, nn.ReLU)
    for weight in (gated.up, gated.down):  # uniform, as in nn.Linear
        bound = weight.shape[-1] ** -0.5
        assert weight.abs().max() <= bound
        assert weight.abs().max() > 0.95 * bound


def test_each_node_is_routed_by_itself():
    net, x = mixture(), torch.randn(29, DIM, dtype=torch.float64)
    order = torch.randperm(29)
    torch.testing.assert_close(net(x)[order], net(x[order]))
    torch.testing.assert_close(net(x)[7:8], net(x[7:8]))


def test_the_router_learns_with_one_expert():
    net = mixture(top_k=1)
    net(torch.randn(29, DIM, dtype=torch.float64)).square().sum().backward()
    assert net.router.weight.grad.abs().max() > 1e-3


def test_grouped_router_chooses_within_the_best_groups():
    torch.manual_seed(2)
    options = {"num_groups": 3, "top_groups": 2, "group_scores": 2, "normalize": True}
    router = GroupedRouter(5, 6, 2, scoring="sigmoid", scale=1.7, correction=True, **options)
    with torch.no_grad():
        router.correction.copy_(torch.tensor([0.0, 0.4, -0.3, 0.2, 0.0, 0.1]))
    x = torch.randn(11, 5)
    probability, weight, expert = router(x)
    score = (x @ router.weight.T).sigmoid()
    torch.testing.assert_close(probability, score / score.sum(1, keepdim=True))
    score = score.detach()
    for row in range(11):
        choice = score[row] + router.correction
        groups = sorted(range(3), key=lambda g: -float(choice[2 * g : 2 * g + 2].sum()))[:2]
        allowed = [2 * g + i for g in groups for i in range(2)]
        best = sorted(allowed, key=lambda e: -float(choice[e]))[:2]
        assert expert[row].tolist() == best
        own = score[row, best]
        torch.testing.assert_close(weight[row], 1.7 * own / own.sum())


def test_a_mixture_with_a_grouped_router():
    torch.manual_seed(3)
    router = GroupedRouter(5, 6, 2, num_groups=2, top_groups=1, scale=0.5)
    mixture = MixtureOfExperts(5, 7, num_experts=6, top_k=2, router=router)
    x = torch.randn(13, 5)
    _, weight, expert = router(x)
    expected = torch.stack(
        [sum(weight[i, k] * mixture._expert(int(expert[i, k]), x[i]) for k in range(2))
         for i in range(13)]
    )  # fmt: skip
    torch.testing.assert_close(mixture(x), expected)
    assert mixture.balance_loss is not None
    mixture(x).square().sum().backward()
    assert router.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_groups": 4}, "num_groups: got 4, expected a divisor of num_experts 6"),
        ({"num_groups": 3, "top_groups": 4}, "top_groups: got 4, expected from 1 to num_groups 3"),
        ({"num_groups": 6}, "top_groups: got 1, .* at least top_k 2 experts"),
    ],
)
def test_groups_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        GroupedRouter(5, 6, 2, **options)
