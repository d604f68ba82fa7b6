"""What an edge may add inside a score, and edges that appear several times."""

from __future__ import annotations

import pytest
import torch
from helpers.awkward import AWKWARD
from torch.nn import functional as F

import graphformer as gf
from graphformer.ops import edge_feature_attention, gatv2_attention
from graphformer.ops.select import BACKENDS

H, D, DV, DE = 4, 5, 3, 7
SHAPES = ["random", "duplicates", "isolated", "bipartite", "hub", "no-edges", "window"]


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()


def backends(function: str) -> list[str]:
    """The backends with a function, but for the reference."""
    return [name for name in BACKENDS if name != "reference" and hasattr(BACKENDS[name], function)]


def assert_as_reference(run, inputs, backend):
    expected, got = run("reference", *inputs), run(backend, *inputs)
    weight = randn(*expected[0].shape, seed=9).detach()
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b)
    grads = [
        torch.autograd.grad((out * weight).sum() + alpha.square().sum(), inputs, allow_unused=True)
        for out, alpha in (got, expected)
    ]
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("backend", backends("additive_attention"))
def test_edge_score(name, backend):
    adjacency = AWKWARD[name]()
    (m, n), e = adjacency.shape, adjacency.num_edges
    inputs = randn(m, H), randn(n, H, seed=1), randn(n, H, DV, seed=2), randn(e, H, seed=3)

    def run(backend, t, s, v, score):
        return gf.additive_attention(
            t, s, v, adjacency, edge_score=score, backend=backend, return_weights=True
        )

    assert_as_reference(run, inputs, backend)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("backend", backends("gatv2_attention"))
def test_edge_key(name, backend):
    adjacency = AWKWARD[name]()
    (m, n), e = adjacency.shape, adjacency.num_edges
    inputs = (
        randn(m, H, D), randn(n, H, D, seed=1), randn(n, H, DV, seed=2), randn(H, D, seed=3),
        randn(e, H, D, seed=4),
    )  # fmt: skip

    def run(backend, q, k, v, weight, key):
        return gatv2_attention(
            q, k, v, weight, adjacency, edge_key=key, backend=backend, return_weights=True
        )

    assert_as_reference(run, inputs, backend)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("heads", [1, H])
@pytest.mark.parametrize("backend", backends("edge_feature_attention"))
def test_edge_feature_attention(name, heads, backend):
    adjacency = AWKWARD[name]()
    (m, n), e = adjacency.shape, adjacency.num_edges
    inputs = (
        randn(m, H, D), randn(n, heads, D, seed=1), randn(n, heads, DV, seed=2),
        randn(e, DE, seed=3), randn(H, D, DE, seed=4), randn(H, DV, DE, seed=5),
    )  # fmt: skip

    def run(backend, *inputs):
        return edge_feature_attention(*inputs, adjacency, backend=backend, return_weights=True)

    assert_as_reference(run, inputs, backend)


def test_edge_values_by_hand():
    adjacency = gf.from_edge_index(torch.tensor([[1, 0], [0, 0]]), 2)
    t, s, v = torch.tensor([[0.5], [0.0]]), torch.tensor([[1.0], [-2.0]]), torch.eye(2).unsqueeze(1)
    score = torch.tensor([3.0, -7.0])
    logits = F.leaky_relu(torch.tensor([0.5 + 1.0 - 7.0, 0.5 - 2.0 + 3.0]), 0.2)
    out = gf.additive_attention(t, s, v, adjacency, edge_score=score)
    torch.testing.assert_close(out[0, 0], logits.softmax(0))


def test_edge_options_are_checked():
    adjacency = AWKWARD["random"]()
    q, k, v = randn(17, H, D), randn(17, H, D), randn(17, H, DV)
    with pytest.raises(ValueError, match=r"edge_score: got \[51, 4\], expected \[53\]"):
        gf.additive_attention(q[..., 0], k[..., 0], v, adjacency, edge_score=torch.ones(51, H))
    with pytest.raises(ValueError, match="edge_key: got"):
        gatv2_attention(q, k, v, randn(H, D), adjacency, edge_key=torch.ones(53, H, D + 1))
    with pytest.raises(ValueError, match="key_map"):
        edge_feature_attention(
            q, k, v, torch.ones(53, DE), randn(H, D, DE), randn(H, D, DE), adjacency
        )
    with pytest.raises(ValueError, match="'sdpa', which has no edge_feature_attention"):
        edge_feature_attention(
            q, k, v, torch.ones(53, DE), randn(H, D, DE), randn(H, DV, DE), adjacency,
            backend="sdpa",
        )  # fmt: skip


@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "sdpa"])
def test_edges_that_are_not_coalesced_count_each(backend):
    edge_index = torch.tensor([[2, 0, 2, 1, 0], [1, 1, 1, 0, 1]])
    adjacency = gf.from_edge_index(edge_index, 3, coalesce=False)
    assert adjacency.num_edges == 5
    assert torch.equal(adjacency.edge_index, edge_index)
    q, v = randn(3, H, D), randn(3, H, DV, seed=1)
    bias = randn(5, H, seed=2)
    out, weights = gf.attention(q, q, v, adjacency, bias=bias, backend=backend, return_weights=True)
    assert weights.shape == (5, H)
    logits = (q[1] * q[[2, 0, 2, 0]]).sum(-1) / D**0.5 + bias[[0, 1, 2, 4]]
    expected = (logits.softmax(0).unsqueeze(-1) * v[[2, 0, 2, 0]]).sum(0)
    torch.testing.assert_close(out[1], expected)
    torch.testing.assert_close(gf.attention(q, q, v, adjacency, bias=bias), out)


def test_edges_that_are_not_coalesced_have_no_mask():
    adjacency = gf.from_edge_index(torch.tensor([[0, 0], [1, 1]]), 2, coalesce=False)
    for other in (adjacency, adjacency.T, adjacency.canonical()):
        with pytest.raises(ValueError, match="expected coalesced edges for a mask"):
            other.to_mask()
    with pytest.raises(ValueError, match="coalesced edges for a mask"):
        gf.attention(*[torch.ones(2, 1, 3)] * 3, adjacency, backend="sdpa")
    assert gf.from_edge_index(torch.tensor([[0], [1]]), 2, coalesce=False).to_mask().sum() == 1
