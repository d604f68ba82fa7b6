"""The central theorem: on any adjacency every backend is the definition, forward and backward."""

from __future__ import annotations

import pytest
import torch
from helpers import definition
from helpers.awkward import AWKWARD, random_edges
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

import graphformer as gf
from graphformer import ops
from graphformer.ops.select import BACKENDS

ALL = [*BACKENDS, "auto"]
EDGES = [name for name in ALL if name != "sdpa"]  # those that take edge weights, return weights
ADDITIVE = [n for n in ALL if n == "auto" or hasattr(BACKENDS[n], "additive_attention")]
GATV2 = [n for n in ALL if n == "auto" or hasattr(BACKENDS[n], "gatv2_attention")]
HEADS, KV_HEADS, WIDTH, VALUE_WIDTH = 6, 3, 5, 7

# (rtol, atol) of outputs and gradients against float64
TOLERANCE = {
    torch.float64: (1e-9, 1e-11),
    torch.float32: (2e-4, 2e-5),
    torch.float16: (1e-2, 1e-2),
    torch.bfloat16: (6e-2, 6e-2),
}


def randn(*shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def inputs(adjacency, dtype=torch.float32, kv_heads=KV_HEADS):
    m, n = adjacency.shape
    return (
        randn(m, HEADS, WIDTH, seed=1, dtype=dtype),
        randn(n, kv_heads, WIDTH, seed=2, dtype=dtype),
        randn(n, kv_heads, VALUE_WIDTH, seed=3, dtype=dtype),
    )


def assert_same(function, expected_function, tensors, *, dtype=torch.float32, cotangents=1):
    """Outputs and the gradients of all tensors, against the definition in float64."""
    mine = [x.detach().to(dtype).requires_grad_() for x in tensors]
    wide = [x.detach().to(dtype).double().requires_grad_() for x in tensors]
    results, expected = function(*mine), expected_function(*wide)
    results = results if isinstance(results, tuple) else (results,)
    expected = expected[: len(results)]
    rtol, atol = TOLERANCE[dtype]
    for got, want in zip(results, expected, strict=True):
        assert got.dtype == dtype
        assert got.shape == want.shape
        torch.testing.assert_close(got.double(), want, rtol=rtol, atol=atol)
    weights = [randn(*got.shape, seed=9, dtype=dtype) for got in results]
    loss = sum((got * w).sum() for got, w in zip(results, weights, strict=True))
    true = sum((want * w.double()).sum() for want, w in zip(expected, weights, strict=True))
    got = torch.autograd.grad(loss, mine, allow_unused=True, materialize_grads=True)
    want = torch.autograd.grad(true, wide, allow_unused=True, materialize_grads=True)
    for number, (a, b) in enumerate(zip(got, want, strict=True)):
        assert torch.isfinite(a).all(), f"gradient {number}"
        scale = max(1.0, float(b.abs().max()) if b.numel() else 1.0)
        torch.testing.assert_close(a.double(), b, rtol=rtol, atol=atol * scale)


@pytest.mark.parametrize("backend", ALL)
@pytest.mark.parametrize("name", AWKWARD)
def test_attention_is_its_definition(name, backend):
    adjacency = AWKWARD[name]()
    assert_same(
        lambda q, k, v: gf.attention(q, k, v, adjacency, backend=backend),
        lambda q, k, v: definition.attention(q, k, v, adjacency),
        inputs(adjacency),
    )


@pytest.mark.parametrize("backend", ALL)
@pytest.mark.parametrize("per_head", [False, True], ids=["bias[E]", "bias[E, H]"])
@pytest.mark.parametrize("name", AWKWARD)
def test_attention_with_bias(name, per_head, backend):
    adjacency = AWKWARD[name]()
    edges = adjacency.num_edges
    bias = randn(edges, HEADS, seed=5) if per_head else randn(edges, seed=5)
    assert_same(
        lambda q, k, v, bias: gf.attention(
            q, k, v, adjacency, bias=bias, scale=0.7, backend=backend
        ),
        lambda q, k, v, bias: definition.attention(q, k, v, adjacency, bias=bias, scale=0.7),
        (*inputs(adjacency), bias),
    )


@pytest.mark.parametrize("backend", EDGES)
@pytest.mark.parametrize("per_head", [False, True], ids=["weight[E]", "weight[E, H]"])
@pytest.mark.parametrize("name", AWKWARD)
def test_attention_with_edge_weight_bias_and_returned_weights(name, per_head, backend):
    adjacency = AWKWARD[name]()
    edges = adjacency.num_edges
    weight = randn(edges, HEADS, seed=4) if per_head else randn(edges, seed=4)
    assert_same(
        lambda q, k, v, w, b: gf.attention(
            q, k, v, adjacency, edge_weight=w, bias=b, backend=backend, return_weights=True
        ),
        lambda q, k, v, w, b: definition.attention(q, k, v, adjacency, edge_weight=w, bias=b),
        (*inputs(adjacency), weight, randn(edges, HEADS, seed=5)),
    )


@pytest.mark.parametrize("backend", ADDITIVE)
@pytest.mark.parametrize("name", AWKWARD)
def test_additive_attention_is_its_definition(name, backend):
    adjacency = AWKWARD[name]()
    (m, n), edges = adjacency.shape, adjacency.num_edges
    tensors = (
        randn(m, HEADS, seed=1),
        randn(n, HEADS, seed=2),
        randn(n, HEADS, VALUE_WIDTH, seed=3),
        randn(edges, seed=4),
        randn(edges, HEADS, seed=5),
    )
    assert_same(
        lambda t, s, v, w, b: gf.additive_attention(
            t, s, v, adjacency, edge_weight=w, bias=b, backend=backend, return_weights=True
        ),
        lambda t, s, v, w, b: definition.additive_attention(
            t, s, v, adjacency, edge_weight=w, bias=b
        ),
        tensors,
    )


@pytest.mark.parametrize("backend", GATV2)
@pytest.mark.parametrize("name", AWKWARD)
def test_gatv2_attention_is_its_definition(name, backend):
    adjacency = AWKWARD[name]()
    edges = adjacency.num_edges
    tensors = (*inputs(adjacency), randn(HEADS, WIDTH, seed=6), randn(edges, HEADS, seed=5))
    assert_same(
        lambda q, k, v, a, b: ops.gatv2_attention(
            q, k, v, a, adjacency, bias=b, negative_slope=0.3, backend=backend, return_weights=True
        ),
        lambda q, k, v, a, b: definition.gatv2_attention(q, k, v, a, adjacency, bias=b, slope=0.3),
        tensors,
    )


@pytest.mark.parametrize("backend", ALL)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("name", ["complete-ragged", "window", "duplicates", "isolated"])
def test_every_dtype(name, dtype, backend):
    adjacency = AWKWARD[name]()
    assert_same(
        lambda q, k, v, b: gf.attention(q, k, v, adjacency, bias=b, backend=backend),
        lambda q, k, v, b: definition.attention(q, k, v, adjacency, bias=b),
        (*inputs(adjacency), randn(adjacency.num_edges, HEADS, seed=5)),
        dtype=dtype,
    )


@pytest.mark.parametrize("backend", ALL)
@pytest.mark.parametrize("kv_heads", [1, 2, 3, 6])
def test_grouped_heads(kv_heads, backend):
    adjacency = AWKWARD["random"]()
    assert_same(
        lambda q, k, v: gf.attention(q, k, v, adjacency, backend=backend),
        lambda q, k, v: definition.attention(q, k, v, adjacency),
        inputs(adjacency, kv_heads=kv_heads),
    )


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


@pytest.mark.parametrize("backend", EDGES)
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


@pytest.mark.parametrize("backend", EDGES)
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


@pytest.mark.parametrize("backend", ALL)
def test_gradcheck(backend):
    adjacency = gf.from_edge_index(random_edges(5, 3, 7), (5, 3))
    q, k, v = (
        randn(n, heads, width, seed=n, dtype=torch.float64).requires_grad_()
        for n, heads, width in ((5, 2, 3), (3, 1, 3), (3, 1, 2))
    )
    bias = randn(7, 2, dtype=torch.float64).requires_grad_()
    torch.autograd.gradcheck(
        lambda *x: gf.attention(*x[:3], adjacency, bias=x[3], backend=backend), (q, k, v, bias)
    )
