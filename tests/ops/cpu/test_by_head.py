"""Edges by head on a CPU: each head walks its own edges, with the results of the reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers.awkward import random_edges
from torch import Tensor

import graphformer as gf
from graphformer import ops
from graphformer.adjacency import HeadEdges
from graphformer.ops import select
from graphformer.ops.cpu import by_head

TARGETS, SOURCES, HEADS = 23, 19, 3


def head_edges(transposed: bool = False) -> HeadEdges:
    """Heads with 61, 7 and no edges; `transposed` ones have an edge order of their own."""
    shape = (SOURCES, TARGETS) if transposed else (TARGETS, SOURCES)
    parts = [
        gf.from_edge_index(torch.stack([source % shape[1], target % shape[0]]), shape)
        for source, target in (random_edges(TARGETS, SOURCES, count) for count in (61, 7, 0))
    ]
    edges = HeadEdges.of(*parts)
    return edges.T if transposed else edges


def variables(*shapes: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]


def tensors(adjacency: HeadEdges, kv_heads: int = HEADS) -> list[Tensor]:
    (targets, sources), edges = adjacency.shape, adjacency.num_edges
    return variables(
        (targets, HEADS, 7), (sources, kv_heads, 7), (sources, kv_heads, 5),
        (edges, HEADS), (edges, HEADS), (edges,),
    )  # fmt: skip


def compare(
    call: Callable[..., Tensor],
    inputs: list[Tensor],
    backends: tuple[str, str] = ("reference", "cpu"),
) -> None:
    """Compare outputs and all gradients of two backends."""
    found = []
    for backend in backends:
        torch.manual_seed(11)  # of dropout
        out = call(*inputs, backend=backend)
        direction = torch.linspace(-1, 1, out.numel()).view_as(out)
        grads = torch.autograd.grad(out, inputs, direction, allow_unused=True)
        found.append((out, *(x for x in grads if x is not None)))
    for expected, got in zip(*found, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_dot_products_with_bias_edge_weight_and_dropout(transposed, dropout):
    adjacency = head_edges(transposed)

    def call(q, k, v, bias, weight, shared, **options: Any):
        options |= {"dropout": dropout}
        out = gf.attention(q, k, v, adjacency, bias=bias, edge_weight=weight, **options)
        return out + gf.attention(q, k, v, adjacency, edge_weight=shared, **options)

    compare(call, tensors(adjacency))


def test_grouped_heads():
    adjacency = head_edges()

    def call(q, k, v, *_, backend: Any):
        return gf.attention(q, k, v, adjacency, backend=backend)

    compare(call, tensors(adjacency, kv_heads=1))


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_kernels_of_one_head(dropout):
    adjacency, width = head_edges(), 16  # a common width, which has them
    shapes = (TARGETS, HEADS, width), *[(SOURCES, HEADS, width)] * 2, (adjacency.num_edges, HEADS)

    def call(q, k, v, bias, backend: Any):
        return gf.attention(q, k, v, adjacency, bias=bias, dropout=dropout, backend=backend)

    compare(call, variables(*shapes))


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_additive_scores(dropout):
    adjacency = head_edges()
    (targets, sources), edges = adjacency.shape, adjacency.num_edges
    shapes = (targets, HEADS), (sources, HEADS), (sources, HEADS, 5), (edges, HEADS), (edges,)

    def call(target, source, v, score, bias, backend: Any):
        return ops.additive_attention(
            target, source, v, adjacency, edge_score=score, bias=bias, dropout=dropout,
            backend=backend,
        )  # fmt: skip

    compare(call, variables(*shapes))


def test_heads_share_the_union_for_gatv2_edge_features_and_returned_weights():
    adjacency = head_edges()
    targets, sources = adjacency.shape
    shapes = (targets, HEADS, 7), (sources, HEADS, 7), (sources, HEADS, 5), (HEADS, 7)
    features = variables((adjacency.num_edges, 2), (HEADS, 7, 2), (HEADS, 5, 2))

    def call(q, k, v, vector, *features, backend: Any):
        out = ops.gatv2_attention(q, k, v, vector, adjacency, dropout=0.3, backend=backend)
        other = ops.edge_feature_attention(q, k, v, *features, adjacency, backend=backend)
        third, weights = gf.attention(q, k, v, adjacency, return_weights=True, backend=backend)
        return torch.cat([out.flatten(), other.flatten(), third.flatten(), weights.flatten()])

    compare(call, [*variables(*shapes), *features])


def test_a_batch_without_nodes():
    empty = gf.from_edge_index(torch.zeros(2, 0, dtype=torch.int64), 0)
    adjacency = HeadEdges.of(*[empty] * HEADS)
    out = gf.attention(*variables(*[(0, HEADS, 7)] * 3), adjacency, backend="cpu")
    assert out.shape == (0, HEADS, 7)


def test_second_derivatives():
    adjacency = head_edges()
    inputs = [x.detach().double().requires_grad_() for x in tensors(adjacency)[:4]]

    def call(q, k, v, bias, backend: Any):
        out = gf.attention(q, k, v, adjacency, bias=bias, dropout=0.4, backend=backend)
        grads = torch.autograd.grad(out.sin().sum(), (q, k, v, bias), create_graph=True)
        return torch.cat([x.flatten() for x in grads])

    compare(call, inputs)


def test_heads_walk_their_own_edges(monkeypatch):
    """Not only equal results: the operator is called on the edges of each head."""
    adjacency, seen = head_edges(), []
    run = by_head.attention_by_head
    monkeypatch.setattr(
        "graphformer.ops.cpu.attention_by_head",
        lambda attend, *args, **kwargs: run(
            lambda *x: seen.append(len(x[9])) or attend(*x), *args, **kwargs
        ),
    )
    gf.attention(*tensors(adjacency)[:3], adjacency, backend="cpu")
    assert seen == [68]


def test_samples_are_groups_of_nodes_that_no_edge_connects():
    lengths = (5, 3, 5, 1)
    adjacency = HeadEdges.of(gf.window(lengths, 2), gf.causal(lengths))
    assert adjacency.samples == lengths
    assert head_edges().samples == ()  # as many targets as sources are needed
    # Windows have 19, 9, 19 and 1 edges, causal samples 15, 6, 15 and 1.
    assert adjacency.sample_density == pytest.approx((48 + 37) / (2 * (25 + 9 + 25 + 1)))


def test_dense_samples_run_as_masked_products(monkeypatch):
    lengths = (5, 3, 5, 1)
    parts = (
        gf.window(lengths, 2),
        gf.causal(lengths),
        gf.from_edge_index(torch.tensor([[1], [0]]), 14),
    )
    adjacency = HeadEdges.of(*parts)
    inputs = variables((14, 3, 7), (14, 3, 7), (14, 3, 5))
    options = {"bias": None, "edge_weight": None, "return_weights": False}
    assert select.auto_backend("attention", adjacency, options) == "cpu"  # few pairs per size
    monkeypatch.setattr(select, "RAGGED", 1)
    assert select.auto_backend("attention", adjacency, options) == "sdpa"
    sparse = HeadEdges.of(gf.window((41,), 1), gf.window((41,), 0))
    assert select.auto_backend("attention", sparse, options) == "cpu"
    with_bias = options | {"bias": torch.zeros(adjacency.num_edges, 3)}
    assert select.auto_backend("attention", adjacency, with_bias) == "cpu"

    def call(q, k, v, backend: Any):
        return gf.attention(q, k, v, adjacency, backend=backend)

    compare(call, inputs, ("reference", "auto"))


@pytest.mark.parametrize("backend", ["auto", "sdpa"])
def test_compiled_code_shares_the_union(backend):
    adjacency = HeadEdges.of(gf.window((13, 7), 2), gf.causal((13, 7)))
    inputs = variables((20, 2, 7), (20, 2, 7), (20, 2, 5))

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return gf.attention(q, k, v, adjacency, backend=backend)

    found = torch.compile(attend, fullgraph=True, backend="aot_eager")(*inputs)
    expected = gf.attention(*inputs, adjacency, backend="reference")
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
