"""Inputs of the tests of the Triton kernels, and comparisons with the definition."""

from __future__ import annotations

import itertools
import os

import pytest
import torch
from helpers import definition
from torch import Tensor

from graphformer.adjacency import Adjacency
from graphformer.ops import reference
from graphformer.ops import triton as backend
from graphformer.ops.common import AttentionOptions

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
NATIVE = [] if INTERPRETED else [pytest.mark.gpu]
"""The pytest marks of a file with these tests."""

HEADS, KV_HEADS, WIDTH, VALUE_WIDTH, FEATURES = 6, 3, 5, 7, 3
FUNCTIONS = ["attention", "additive_attention", "gatv2_attention", "edge_feature_attention"]
OPTIONS: dict[str, set[str]] = {
    "plain": set(),
    "bias and edge weight": {"bias", "edge_weight"},
    "one edge weight for all heads, dropout, weights": {"shared_weight", "dropout", "weights"},
}
# (rtol, atol) of outputs and gradients against float64
TOLERANCE = {
    torch.float32: (2e-4, 2e-5),
    torch.float16: (1e-2, 1e-2),
    torch.bfloat16: (6e-2, 6e-2),
}


def randn(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(DEVICE, torch.float32)


def seed() -> Tensor:
    return torch.tensor(8_191, device=DEVICE)


def edge_options(adjacency: Adjacency, names: set[str]) -> AttentionOptions:
    edges = adjacency.num_edges
    width = 1 if "shared_weight" in names else HEADS
    weighted = names & {"shared_weight", "edge_weight"}
    return AttentionOptions(
        bias=randn(edges, HEADS, seed=5) if "bias" in names else None,
        edge_weight=randn(edges, width, seed=4) if weighted else None,
        dropout=0.3 if "dropout" in names else 0.0,
        seed=seed() if "dropout" in names else None,
        return_weights="weights" in names,
    )


def inputs(function: str, adjacency: Adjacency, kv_heads: int = KV_HEADS, width: int = WIDTH):
    (m, n), edges = adjacency.shape, adjacency.num_edges
    value_width = VALUE_WIDTH if width == WIDTH else width
    if function == "additive_attention":
        values = randn(n, HEADS, value_width, seed=3)
        return [randn(m, HEADS, seed=1), randn(n, HEADS, seed=2), values]
    tensors = [randn(m, HEADS, width, seed=1), randn(n, kv_heads, width, seed=2)]
    tensors.append(randn(n, kv_heads, value_width, seed=3))
    if function == "gatv2_attention":
        tensors.append(randn(HEADS, width, seed=6))
    if function == "edge_feature_attention":
        maps = (randn(HEADS, x, FEATURES, seed=8) for x in (width, value_width))
        tensors += [randn(edges, FEATURES, seed=7), *maps]
    return tensors


def function_options(function: str, adjacency: Adjacency) -> dict[str, object]:
    """Return the options that only this function has."""
    edges = adjacency.num_edges
    if function in ("attention", "edge_feature_attention"):
        return {"scale": 0.37}
    if function == "additive_attention":
        return {"negative_slope": 0.2, "edge_score": randn(edges, HEADS, seed=11)}
    return {"negative_slope": 0.2, "edge_key": randn(edges, HEADS, WIDTH, seed=11)}


def exact_results(module, function, tensors, adjacency, **options):  # type: ignore[no-untyped-def]
    """Return the `results` of an oracle, on a CPU in float64."""
    tensors = [x.cpu().double() for x in tensors]
    options = {
        n: (x.cpu() if n == "seed" else x.cpu().double()) if isinstance(x, Tensor) else x
        for n, x in options.items()
    }
    return results(module, function, tensors, adjacency.to("cpu"), **options)


def results(module, function, tensors, adjacency, **options):  # type: ignore[no-untyped-def]
    """Return outputs, and gradients of a linear loss by all inputs and edge values."""

    def leaf(x: Tensor) -> Tensor:
        return x.detach().clone().requires_grad_()

    leaves = [leaf(x) for x in tensors]
    named = {n: leaf(x) for n, x in options.items() if isinstance(x, Tensor) and n != "seed"}
    outputs = getattr(module, function)(*leaves, adjacency, **(options | named))
    outputs = [x for x in outputs if x is not None]
    loss = sum((x * randn(*x.shape, seed=9).to(x)).sum() for x in outputs)
    grads = torch.autograd.grad(
        loss, [*leaves, *named.values()], allow_unused=True, materialize_grads=True
    )
    return [x.detach() for x in outputs], grads


def assert_same(function, tensors, adjacency, oracle=reference, dtype=torch.float32, **options):  # type: ignore[no-untyped-def]
    narrow = [x.to(dtype) for x in tensors]
    options = {
        n: x.to(dtype) if isinstance(x, Tensor) and n != "seed" else x for n, x in options.items()
    }
    ours = results(backend, function, narrow, adjacency, **options)
    if oracle is definition:
        options = {n: x for n, x in options.items() if n in ("scale", "bias", "edge_weight")}
    theirs = exact_results(oracle, function, narrow, adjacency, **options)
    rtol, atol = TOLERANCE[dtype]
    for actual, exact in zip(itertools.chain(*ours), itertools.chain(*theirs), strict=True):
        assert actual.dtype == dtype
        assert torch.isfinite(actual).all()
        size = max(1.0, float(exact.abs().max())) if exact.numel() else 1.0
        torch.testing.assert_close(actual.cpu().double(), exact, rtol=rtol, atol=atol * size)


def bits_are_equal(first, second) -> bool:  # type: ignore[no-untyped-def]
    pairs = zip(itertools.chain(*first), itertools.chain(*second), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)
