"""Properties that all backends share: empty rows, layouts, edge order, samples, reproducibility."""

from __future__ import annotations

import pytest
import torch
from helpers import definition
from helpers.attention_cases import ALL, EDGE_VALUES, HEADS, assert_same, inputs, randn
from helpers.awkward import AWKWARD, random_edges
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

import graphformer as gf


@pytest.mark.parametrize("backend", ALL)
@pytest.mark.parametrize("causal", [False, True])
def test_complete_and_causal_are_torchs(backend, causal):
    n = 13
    q, k, v = (randn(n, 3, 5, seed=i) for i in range(3))
    adjacency = gf.causal(n) if causal else gf.complete(n)
    expected = F.scaled_dot_product_attention(
        *(x.transpose(0, 1) for x in (q, k, v)), is_causal=causal
    ).transpose(0, 1)
    out = gf.attention(q, k, v, adjacency, backend=backend)
    torch.testing.assert_close(out, expected, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("backend", ALL)
@pytest.mark.parametrize("name", ["complete-ragged", "causal", "window", "random", "duplicates"])
def test_a_row_whose_logits_are_all_minus_infinity_is_empty(name, backend):
    adjacency = AWKWARD[name]()
    target = adjacency.edge_index[1]
    bias = randn(adjacency.num_edges, HEADS, seed=5)
    bias[target == 2, 1:] = -torch.inf  # all heads but the first
    bias[0] = -torch.inf
    assert_same(
        lambda q, k, v: gf.attention(q, k, v, adjacency, bias=bias, backend=backend),
        lambda q, k, v: definition.attention(q, k, v, adjacency, bias=bias.double()),
        inputs(adjacency),
    )
    bias.requires_grad_()
    q, k, v = inputs(adjacency)
    out = gf.attention(q, k, v, adjacency, bias=bias, backend=backend)
    assert (out[2, 1:] == 0).all()
    assert (out[2, 0] != 0).all()
    out.sum().backward()
    assert torch.isfinite(bias.grad).all()


@pytest.mark.parametrize("backend", ALL)
def test_large_logits_do_not_overflow(backend):
    adjacency = AWKWARD["random"]()
    q, k, v = inputs(adjacency)
    assert_same(
        lambda q, k, v: gf.attention(100 * q, k, v, adjacency, backend=backend),
        lambda q, k, v: definition.attention(100 * q, k, v, adjacency),
        (q, k, v),
        dtype=torch.float64,
    )
    assert torch.isfinite(gf.attention(1e4 * q, k, v, adjacency, backend=backend)).all()


@pytest.mark.parametrize("backend", ALL)
def test_inputs_may_be_views_in_any_layout(backend):
    adjacency = AWKWARD["union"]()
    q, k, v = inputs(adjacency)
    strided = [x.permute(2, 0, 1).contiguous().permute(1, 2, 0) for x in (q, k, v)]
    qkv = torch.cat([q, k], dim=1)
    assert not any(x.is_contiguous() for x in strided)
    expected = gf.attention(q, k, v, adjacency, backend=backend)
    for views in (strided, [qkv[:, :HEADS], qkv[:, HEADS:], v]):
        out = gf.attention(*views, adjacency, backend=backend)
        torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backend", EDGE_VALUES)
def test_edge_values_follow_the_callers_order(backend):
    edges = random_edges(7, 7, 19)
    order = torch.randperm(19, generator=torch.Generator().manual_seed(3))
    q, k, v = (randn(7, 2, 5, seed=i) for i in range(3))
    bias = randn(19, 2, seed=4)
    first = gf.from_edge_index(edges, 7)
    second = gf.from_edge_index(edges[:, order], 7)
    options = {"backend": backend, "return_weights": True}
    out, weights = gf.attention(q, k, v, first, bias=bias, **options)
    other, others = gf.attention(q, k, v, second, bias=bias[order], **options)
    torch.testing.assert_close(out, other)
    torch.testing.assert_close(weights[order], others)
    sums = torch.zeros(7, 2).index_add(0, edges[1], weights)
    torch.testing.assert_close(sums, (sums > 0).float())


@pytest.mark.parametrize("backend", EDGE_VALUES)
def test_values_of_duplicates_may_be_given_if_they_agree(backend):
    edges = torch.tensor([[2, 0, 2, 1, 0], [1, 1, 1, 0, 1]])
    adjacency = gf.from_edge_index(edges, 3)
    q, k, v = (randn(3, 2, 5, seed=i) for i in range(3))
    unique = torch.tensor([0.5, -1.0, 2.0])
    full = unique[torch.tensor([0, 1, 0, 2, 1])].requires_grad_()
    expected = gf.attention(q, k, v, adjacency, bias=unique, backend=backend)
    out = gf.attention(q, k, v, adjacency, bias=full, backend=backend)
    torch.testing.assert_close(out, expected)
    out.sum().backward()
    assert torch.isfinite(full.grad).all()
    differing = full.detach().clone()
    differing[4] = 7
    with pytest.raises(ValueError, match="bias: got values that differ between duplicates"):
        gf.attention(q, k, v, adjacency, bias=differing, backend=backend)


@pytest.mark.parametrize("backend", ALL)
@pytest.mark.parametrize(
    "make",
    [
        lambda: gf.complete([5, 7, 5]),
        lambda: gf.causal([5, 7, 5]),
        lambda: gf.window([5, 7, 5], 2),
        lambda: gf.batch([gf.from_edge_index(random_edges(n, n, 11), n) for n in (5, 7, 5)]),
    ],
    ids=["complete", "causal", "window", "csr"],
)
def test_samples_are_isolated_to_the_bit(make, backend):
    adjacency = make()
    tensors = [randn(17, 2, 5, seed=i) for i in range(3)]

    def run(tensors):
        leaves = [x.clone().requires_grad_() for x in tensors]
        out = gf.attention(*leaves, adjacency, backend=backend)
        return out, *torch.autograd.grad(out.square().sum(), leaves)

    before = run(tensors)
    for x in tensors:
        x[5:12] = 100 * randn(7, 2, 5, seed=8)
    after = run(tensors)
    others = torch.tensor([*range(5), *range(12, 17)])
    for a, b in zip(before, after, strict=True):
        assert torch.equal(a[others], b[others])
    assert not torch.equal(before[0][5:12], after[0][5:12])


@pytest.mark.parametrize("backend", ALL)
@pytest.mark.parametrize("name", ["complete-ragged", "duplicates", "hub"])
def test_the_same_inputs_give_the_same_bits(name, backend):
    adjacency = AWKWARD[name]()

    def run():
        torch.manual_seed(5)
        leaves = [x.requires_grad_() for x in inputs(adjacency)]
        out = gf.attention(*leaves, adjacency, dropout=0.3, backend=backend)
        return out, *torch.autograd.grad(out.square().sum(), leaves)

    assert all(torch.equal(a, b) for a, b in zip(run(), run(), strict=True))


@pytest.mark.parametrize("backend", ALL)
@given(seed=st.integers(0, 99), count=st.integers(0, 60))
def test_permuting_the_nodes_permutes_the_output(backend, seed, count):
    n = 11
    edges = random_edges(n, n, count, seed)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    place = order.argsort()
    q, k, v = (randn(n, 2, 3, seed=seed + i) for i in range(3))
    out = gf.attention(q, k, v, gf.from_edge_index(edges, n), backend=backend)
    moved = gf.from_edge_index(place[edges], n)
    other = gf.attention(q[order], k[order], v[order], moved, backend=backend)
    torch.testing.assert_close(other, out[order], rtol=1e-5, atol=1e-6)
