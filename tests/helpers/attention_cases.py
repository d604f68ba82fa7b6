"""Inputs of the attention functions, and comparison with the definition in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from graphformer.adjacency import Adjacency
from graphformer.ops.select import BACKENDS

ALL = [*BACKENDS, "auto"]
EDGE_VALUES = [name for name in ALL if name != "sdpa"]
"""The backends that multiply by edge weights and return weights."""
HEADS, KV_HEADS, WIDTH, VALUE_WIDTH = 6, 3, 5, 7

TOLERANCE = {
    torch.float64: (1e-9, 1e-11),
    torch.float32: (2e-4, 2e-5),
    torch.float16: (1e-2, 1e-2),
    torch.bfloat16: (6e-2, 6e-2),
}
"""(rtol, atol) of outputs and gradients against float64."""


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Normal numbers by seed and shape, the same in every dtype up to rounding."""
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def inputs(
    adjacency: Adjacency, dtype: torch.dtype = torch.float32, kv_heads: int = KV_HEADS
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries [M, H, D], keys [N, Hkv, D] and values [N, Hkv, Dv]."""
    m, n = adjacency.shape
    return (
        randn(m, HEADS, WIDTH, seed=1, dtype=dtype),
        randn(n, kv_heads, WIDTH, seed=2, dtype=dtype),
        randn(n, kv_heads, VALUE_WIDTH, seed=3, dtype=dtype),
    )


def assert_same(
    function: Callable[..., Tensor | tuple[Tensor, ...]],
    expected_function: Callable[..., tuple[Tensor, ...]],
    tensors: Sequence[Tensor],
    *,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Compare outputs and the gradients of all tensors with those of a function in float64."""
    leaves = [x.detach().to(dtype).requires_grad_() for x in tensors]
    wide_leaves = [x.detach().to(dtype).double().requires_grad_() for x in tensors]
    results, expected = function(*leaves), expected_function(*wide_leaves)
    results = results if isinstance(results, tuple) else (results,)
    expected = expected[: len(results)]
    rtol, atol = TOLERANCE[dtype]
    for got, want in zip(results, expected, strict=True):
        assert got.dtype == dtype
        assert got.shape == want.shape
        torch.testing.assert_close(got.double(), want, rtol=rtol, atol=atol)
    weights = [randn(*got.shape, seed=9, dtype=dtype) for got in results]
    for_loss = zip(results, weights, strict=True)
    for_expected = zip(expected, weights, strict=True)
    grads = torch.autograd.grad(
        sum((got * w).sum() for got, w in for_loss),
        leaves, allow_unused=True, materialize_grads=True,
    )  # fmt: skip
    expected_grads = torch.autograd.grad(
        sum((want * w.double()).sum() for want, w in for_expected),
        wide_leaves, allow_unused=True, materialize_grads=True,
    )  # fmt: skip
    for number, (a, b) in enumerate(zip(grads, expected_grads, strict=True)):
        assert torch.isfinite(a).all(), f"gradient {number}"
        scale = max(1.0, float(b.abs().max()) if b.numel() else 1.0)
        torch.testing.assert_close(a.double(), b, rtol=rtol, atol=atol * scale)
