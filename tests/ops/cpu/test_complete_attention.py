"""Small complete samples, which have kernels without lists of edges, against the definition."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers import definition
from helpers.cpu_cases import PLAIN
from torch import Tensor

import graphformer as gf
from graphformer.adjacency import Adjacency
from graphformer.ops import cpu
from graphformer.ops.cpu.samples import LARGEST, small_samples

SIZES = {
    "several": ([5, 1, 17, 36, 16], None),
    "one": ([13], None),
    "largest": ([LARGEST, 3], None),
    "cross": ([3, 7, 0, 2], [11, 5, 3, 0]),
}


def tensors(
    adjacency: Adjacency, heads: int = 6, kv_heads: int = 3, width: int = 16, **options: Any
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(7)
    targets, sources = adjacency.shape
    shapes = (targets, heads, width), (sources, kv_heads, width), (sources, kv_heads, width)
    made = [torch.randn(shape, generator=generator, **options) for shape in shapes]
    return [x.requires_grad_() for x in made]


def dense(q: Tensor, k: Tensor, v: Tensor, adjacency: Adjacency) -> Tensor:
    assert small_samples(q, k, v, adjacency, PLAIN) is not None
    return cpu.attention(q, k, v, adjacency, scale=0.37, **PLAIN)[0]


def gradients(out: Tensor, inputs: list[Tensor], **options: Any) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(5)
    weights = torch.randn(out.shape, generator=generator).to(out)
    return torch.autograd.grad(out, inputs, weights, **options)


@pytest.mark.parametrize("width", [8, 16, 32])
@pytest.mark.parametrize("name", SIZES)
def test_outputs_and_gradients_are_those_of_the_definition(name: str, width: int) -> None:
    adjacency = gf.complete(*SIZES[name])
    inputs = tensors(adjacency, width=width)
    double = [x.detach().double().requires_grad_() for x in inputs]
    expected, _ = definition.attention(*double, adjacency, scale=0.37)
    out = dense(*inputs, adjacency)
    torch.testing.assert_close(out.double(), expected, rtol=2e-5, atol=2e-6)
    exact = gradients(expected, double)
    for mine, theirs in zip(gradients(out, inputs), exact, strict=True):
        torch.testing.assert_close(mine.double(), theirs, rtol=2e-5, atol=2e-5)


def test_double_precision_equals_the_edges_one_by_one() -> None:
    adjacency = gf.complete([5, 29, 3])
    inputs = tensors(adjacency, dtype=torch.float64)
    listed, _ = cpu.attention(*inputs, adjacency.to_csr(), scale=0.37, **PLAIN)
    out = dense(*inputs, adjacency)
    torch.testing.assert_close(out, listed, rtol=1e-12, atol=1e-14)
    both = (gradients(each, inputs) for each in (out, listed))
    for mine, theirs in zip(*both, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-13)


def test_second_derivatives() -> None:
    adjacency = gf.complete([3, 2])
    inputs = tensors(adjacency, heads=2, kv_heads=1, width=8, dtype=torch.float64)

    def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return dense(q, k, v, adjacency)

    assert torch.autograd.gradgradcheck(run, inputs)


def test_gradients_of_the_values_alone() -> None:
    adjacency = gf.complete([5, 11])
    q, k, v = tensors(adjacency)
    both = [gradients(dense(*x, v, adjacency), [v], create_graph=g) for x, g in (
        ((q.detach(), k.detach()), False), ((q.detach(), k.detach()), True), ((q, k), False)
    )]  # fmt: skip
    for other in both[1:]:
        torch.testing.assert_close(both[0], other)


def test_bits_do_not_depend_on_threads() -> None:
    adjacency, results = gf.complete([19, 2, 31, 7] * 5), []
    inputs = tensors(adjacency)
    before = torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        out = dense(*inputs, adjacency)
        results.append((out, *gradients(out, inputs)))
    torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_accumulates_in_float32(dtype: torch.dtype) -> None:
    adjacency = gf.complete([23, 5])
    half = [x.detach().to(dtype).requires_grad_() for x in tensors(adjacency)]
    single = [x.detach().float().requires_grad_() for x in half]
    out, exact = dense(*half, adjacency), dense(*single, adjacency)
    assert torch.equal(out, exact.to(dtype))
    pairs = zip(gradients(out, half), gradients(exact, single), strict=True)
    for mine, theirs in pairs:
        assert mine.dtype == dtype
        tolerance = 4 * torch.finfo(dtype).eps
        torch.testing.assert_close(mine.float(), theirs, rtol=tolerance, atol=tolerance)


def test_strided_inputs_give_equal_bits() -> None:
    adjacency = gf.complete([7, 13])
    q, k, v = (x.detach() for x in tensors(adjacency, kv_heads=6))
    joined = torch.stack([q, k, v], 1)
    out = dense(*joined.unbind(1), adjacency)
    assert torch.equal(out, dense(q, k, v, adjacency))


def test_nan_stays_in_its_sample() -> None:
    adjacency = gf.complete([7, 13, 5])
    q, k, v = (x.detach() for x in tensors(adjacency))
    k[9, 1, 3] = torch.nan
    out = dense(q, k, v, adjacency)
    assert out[:7].isfinite().all()
    assert out[20:].isfinite().all()
    assert out[7:20, 2:4].isnan().all()
    assert out[7:20, [0, 1, 4, 5]].isfinite().all()


@pytest.mark.parametrize(
    "change",
    [
        {"bias": torch.zeros(29, 1)},
        {"edge_weight": torch.ones(29, 1)},
        {"dropout": 0.5},
        {"return_weights": True},
    ],
)
def test_calls_with_values_of_edges_list_them(change: dict[str, Any]) -> None:
    adjacency = gf.complete([5, 2])
    assert small_samples(*tensors(adjacency), adjacency, PLAIN) is not None
    assert small_samples(*tensors(adjacency), adjacency, PLAIN | change) is None


@pytest.mark.parametrize(
    "adjacency",
    [gf.causal([5, 2]), gf.complete([LARGEST + 1]), gf.complete([3]).to_csr(), gf.complete([0])],
)
def test_other_adjacencies_list_their_edges(adjacency: Adjacency) -> None:
    assert small_samples(*tensors(adjacency), adjacency, PLAIN) is None
