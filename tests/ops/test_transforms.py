"""Forward-mode derivatives and transforms of torch.func: right, or refused by name."""

from __future__ import annotations

import pytest
import torch
from helpers.attention_cases import randn
from helpers.awkward import random_edges
from torch.autograd import forward_ad

import graphformer as gf
from graphformer.ops import dropout
from graphformer.ops.dropout import MIN_ELEMENTS
from graphformer.ops.transforms import has_tangent, is_transformed

EDGES = gf.from_edge_index(random_edges(7, 7, 19), 7)
MAKE = {"csr": lambda: EDGES, "complete": lambda: gf.complete([3, 4])}


def attend(x, adjacency, backend="auto"):
    return gf.attention(x, 2 * x, x.sin(), adjacency, backend=backend)


@pytest.mark.parametrize("name", MAKE)
def test_forward_mode_is_that_of_the_reference(name):
    adjacency = MAKE[name]()
    x, tangent = (randn(7, 2, 3, seed=i, dtype=torch.float64) for i in range(2))
    _, expected = torch.func.jvp(lambda x: attend(x, adjacency, "reference"), (x,), (tangent,))
    _, got = torch.func.jvp(lambda x: attend(x, adjacency), (x,), (tangent,))
    torch.testing.assert_close(got, expected)
    with forward_ad.dual_level():
        out = attend(forward_ad.make_dual(x, tangent), adjacency)
        torch.testing.assert_close(forward_ad.unpack_dual(out).tangent, expected)


def test_forward_mode_of_values_on_edges():
    x = randn(7, 2, 3, dtype=torch.float64)
    bias, tangent = (randn(19, seed=i, dtype=torch.float64) for i in range(2))

    def biased(bias, backend):
        return gf.attention(x, x, x, EDGES, bias=bias, backend=backend)

    results = [
        torch.func.jvp(lambda b, name=name: biased(b, name), (bias,), (tangent,))[1]
        for name in ("auto", "reference")
    ]
    torch.testing.assert_close(*results)
    assert results[0].abs().sum() > 0


@pytest.mark.parametrize("name", MAKE)
def test_grad_hessian_and_vmap(name):
    adjacency, x = MAKE[name](), randn(7, 2, 3, dtype=torch.float64)

    def loss(x, backend="auto"):
        return attend(x, adjacency, backend).square().sum()

    torch.testing.assert_close(
        torch.func.grad(loss)(x), torch.func.grad(lambda x: loss(x, "reference"))(x)
    )
    hessian = torch.func.hessian(loss)(x).reshape(42, 42)
    torch.testing.assert_close(hessian, hessian.T)
    both = torch.stack([x, x.flip(0)])
    expected = torch.stack([attend(each, adjacency) for each in both])
    torch.testing.assert_close(torch.func.vmap(lambda x: attend(x, adjacency))(both), expected)


def test_a_fused_backend_refuses_by_name():
    x = randn(7, 2, 3)
    with pytest.raises(NotImplementedError, match="backend: got 'cpu', which supports neither"):
        torch.func.jvp(lambda x: attend(x, EDGES, "cpu"), (x,), (x,))
    with pytest.raises(NotImplementedError, match="backend: got 'cpu'"):
        torch.func.grad(lambda x: attend(x, EDGES, "cpu").sum())(x)


def test_dropout_has_forward_mode():
    x = torch.ones(MIN_ELEMENTS)
    out, tangent = torch.func.jvp(lambda x: dropout(x, 0.5), (x,), (3 * x,))
    assert torch.equal(tangent, 3 * out)
    assert 0 < (out == 0).sum() < MIN_ELEMENTS


def test_detection():
    x = torch.ones(3)
    assert not is_transformed()
    assert not has_tangent([x, None])
    with forward_ad.dual_level():
        assert has_tangent([None, forward_ad.make_dual(x, x)])
        assert not has_tangent([x])
    assert torch.func.vmap(lambda x: x * is_transformed())(x).all()
