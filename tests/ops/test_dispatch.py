"""The attention functions on all backends against the definition, forward and backward."""

from __future__ import annotations

import pytest
import torch
from helpers import definition
from helpers.attention_cases import (
    ALL,
    EDGE_VALUES,
    HEADS,
    TOLERANCE,
    VALUE_WIDTH,
    WIDTH,
    assert_same,
    inputs,
    randn,
)
from helpers.awkward import AWKWARD, random_edges

import graphformer as gf
from graphformer import ops
from graphformer.ops.select import BACKENDS

ADDITIVE = [n for n in ALL if n == "auto" or hasattr(BACKENDS[n], "additive_attention")]
GATV2 = [n for n in ALL if n == "auto" or hasattr(BACKENDS[n], "gatv2_attention")]


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


@pytest.mark.parametrize("backend", ALL)
@pytest.mark.parametrize("name", AWKWARD)
def test_attention_with_bounded_logits(name, backend):
    adjacency = AWKWARD[name]()
    edges = adjacency.num_edges
    assert_same(
        lambda q, k, v, w, b: gf.attention(
            q, k, v, adjacency, softcap=0.6, edge_weight=w, bias=b, backend=backend
        ),
        lambda q, k, v, w, b: definition.attention(
            q, k, v, adjacency, softcap=0.6, edge_weight=w, bias=b
        ),
        (*inputs(adjacency), randn(edges, seed=4), randn(edges, HEADS, seed=5)),
    )


def test_the_bound_is_above_zero():
    adjacency = gf.complete([3])
    with pytest.raises(ValueError, match="softcap: got 0.0, expected a number above 0"):
        gf.attention(*inputs(adjacency), adjacency, softcap=0.0)


@pytest.mark.parametrize("backend", EDGE_VALUES)
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


@pytest.mark.parametrize("backend", ALL)
@pytest.mark.parametrize("shape", [(), (HEADS, 1)], ids=["scalar", "per head"])
def test_a_scale_that_is_learned(shape, backend):
    adjacency = AWKWARD["window"]()
    scale = 0.3 + randn(*shape).abs()
    assert_same(
        lambda q, k, v, s: gf.attention(q, k, v, adjacency, scale=s, backend=backend),
        lambda q, k, v, s: definition.attention(q * s, k, v, adjacency, scale=1.0),
        (*inputs(adjacency), scale),
    )


@pytest.mark.parametrize("backend", EDGE_VALUES)
def test_dropout_of_everything(backend):
    adjacency = AWKWARD["random"]()
    q, k, v = (x.requires_grad_() for x in inputs(adjacency))
    out, weights = gf.attention(
        q, k, v, adjacency, dropout=1.0, backend=backend, return_weights=True
    )
    assert not out.any()
    assert not weights.any()
    grads = torch.autograd.grad(out.sum(), (q, k, v))
    assert not any(x.any() for x in grads)


def test_the_result_is_a_pair_with_weights_only():
    adjacency = gf.window(7, 1)
    q = randn(7, 2, 3)
    assert isinstance(gf.attention(q, q, q, adjacency), torch.Tensor)
    out, weights = gf.attention(q, q, q, adjacency, return_weights=True)
    assert out.shape == q.shape
    assert weights.shape == (adjacency.num_edges, 2)
