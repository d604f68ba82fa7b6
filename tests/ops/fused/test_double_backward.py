"""Second and third derivatives of the fused operators."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from helpers.attention_cases import randn
from helpers.awkward import random_edges
from torch import Tensor

import graphformer as gf
from graphformer import ops

ADJACENCY = gf.from_edge_index(random_edges(5, 3, 11), (5, 3))
H, D, DV, F, E = 4, 3, 2, 2, 11
Call = Callable[..., Tensor | tuple[Tensor, ...]]


def variables(*shapes: tuple[int, ...]) -> list[Tensor]:
    return [
        randn(*shape, seed=number, dtype=torch.float64).requires_grad_()
        for number, shape in enumerate(shapes)
    ]


def attention(backend: str) -> tuple[Call, list[Tensor]]:
    def call(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, edge_weight: Tensor) -> object:
        return gf.attention(
            q, k, v, ADJACENCY, bias=bias, edge_weight=edge_weight, backend=backend,
            return_weights=True,
        )  # fmt: skip

    return call, variables((5, H, D), (3, 2, D), (3, 2, DV), (E, H), (E, 1))


def attention_with_dropout(backend: str) -> tuple[Call, list[Tensor]]:
    def call(q: Tensor, k: Tensor, v: Tensor, edge_weight: Tensor) -> object:
        torch.manual_seed(5)
        options = {"edge_weight": edge_weight, "dropout": 0.4, "backend": backend}
        return gf.attention(q, k, v, ADJACENCY, **options)

    return call, variables((5, H, D), (3, H, D), (3, H, DV), (E, H))


def edge_features(backend: str) -> tuple[Call, list[Tensor]]:
    def call(*tensors: Tensor) -> object:
        return ops.edge_feature_attention(*tensors, ADJACENCY, backend=backend)

    return call, variables((5, H, D), (3, H, D), (3, H, DV), (E, F), (H, D, F), (H, DV, F))


def additive(backend: str) -> tuple[Call, list[Tensor]]:
    def call(target: Tensor, source: Tensor, v: Tensor, score: Tensor) -> object:
        options = {"edge_score": score, "backend": backend, "return_weights": True}
        return gf.additive_attention(target, source, v, ADJACENCY, **options)

    return call, variables((5, H), (3, H), (3, H, DV), (E, H))


def gatv2(backend: str) -> tuple[Call, list[Tensor]]:
    def call(q: Tensor, k: Tensor, v: Tensor, weight: Tensor, key: Tensor) -> object:
        return ops.gatv2_attention(q, k, v, weight, ADJACENCY, edge_key=key, backend=backend)

    return call, variables((5, H, D), (3, 2, D), (3, 2, DV), (H, D), (E, H, D))


CASES = [attention, attention_with_dropout, edge_features, additive, gatv2]


@pytest.mark.parametrize("case", CASES)
def test_second_derivatives_are_those_of_finite_differences(case):
    call, tensors = case("cpu")
    assert torch.autograd.gradgradcheck(call, tensors)


@pytest.mark.parametrize("case", CASES)
def test_third_derivatives_are_those_of_the_reference(case):
    def third(backend: str) -> list[Tensor]:
        call, tensors = case(backend)
        results = call(*tensors)
        for order in range(3):
            results = results if isinstance(results, tuple) else (results,)
            loss = sum(x.sin().sum() for x in results)
            results = torch.autograd.grad(
                loss, tensors, create_graph=order < 2, materialize_grads=True
            )
        return list(results)

    for got, expected in zip(third("cpu"), third("reference"), strict=True):
        torch.testing.assert_close(got, expected)


def test_first_derivatives_are_the_kernels_with_create_graph_too():
    call, tensors = attention("cpu")
    grads = [
        torch.autograd.grad(call(*tensors)[0].sum(), tensors, create_graph=create_graph)
        for create_graph in (False, True)
    ]
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))
