"""The Triton kernels as operators of torch: compiled, under autocast and in CUDA graphs.

Run as test_kernels.py is.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from helpers.awkward import AWKWARD
from helpers.triton_cases import (
    DEVICE,
    FUNCTIONS,
    INTERPRETED,
    NATIVE,
    WIDTH,
    edge_options,
    function_options,
    inputs,
    randn,
)
from torch import Tensor

import graphformer as gf
from graphformer.adjacency import Adjacency
from graphformer.ops import triton as backend

pytestmark = NATIVE


@pytest.fixture
def fresh_dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("function", FUNCTIONS[2:])
def test_opcheck(function: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from graphformer.ops.triton import attend

    calls = []
    monkeypatch.setattr(backend, "attend", lambda *args: calls.append(args) or attend(*args))
    adjacency = AWKWARD["bipartite"]().to(DEVICE)
    tensors = [x.requires_grad_() for x in inputs(function, adjacency)]
    every = function_options(function, adjacency) | edge_options(
        adjacency, {"bias", "weights", "edge_weight"}
    )
    getattr(backend, function)(*tensors, adjacency, **every)
    arguments = tuple(
        x.detach().requires_grad_(x.is_floating_point()) if isinstance(x, Tensor) else x
        for x in calls[0]
    )
    operator = torch.ops.graphformer.triton_attend.default
    torch.library.opcheck(operator, arguments, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["random", "window"])
def test_compiles_in_one_graph(name: str, fresh_dynamo: None) -> None:
    adjacency = AWKWARD[name]().to(DEVICE)
    tensors = [x.requires_grad_() for x in inputs("attention", adjacency)]

    def run(q: Tensor, k: Tensor, v: Tensor, adjacency: Adjacency) -> Tensor:
        return gf.attention(q * 2, k, v, adjacency, backend="triton").relu()

    out = torch.compile(run, fullgraph=True, backend="aot_eager")(*tensors, adjacency)
    expected = run(*tensors, adjacency)
    torch.testing.assert_close(out, expected)
    grads = (torch.autograd.grad(x.square().sum(), tensors) for x in (out, expected))
    for got, want in zip(*grads, strict=True):
        torch.testing.assert_close(got, want)


def test_autocast() -> None:
    adjacency = AWKWARD["bipartite"]().to(DEVICE)
    linear = torch.nn.Linear(7, 2 * WIDTH).to(DEVICE)
    options = edge_options(adjacency, set())
    with torch.autocast(DEVICE, torch.bfloat16):
        sizes = adjacency.shape[0], adjacency.shape[1], adjacency.shape[1]
        q, k, v = (linear(randn(n, 7)).unflatten(-1, (2, WIDTH)) for n in sizes)
        out, _ = backend.attention(q, k, v, adjacency, scale=0.4, **options)
    assert out.dtype == torch.bfloat16
    out.float().square().sum().backward()
    assert linear.weight.grad.isfinite().all()


def test_unsupported_options_are_refused() -> None:
    adjacency = AWKWARD["bipartite"]().to(DEVICE)
    q, k, v = (x.double() for x in inputs("attention", adjacency))
    with pytest.raises(ValueError, match="'triton' with float64, expected float32"):
        gf.attention(q, k, v, adjacency, backend="triton")
    q, k, v = (x.requires_grad_() for x in inputs("attention", adjacency))
    out = gf.attention(q, k, v, adjacency, backend="triton")
    (grad,) = torch.autograd.grad(out.sum(), [q], create_graph=True)
    (second,) = torch.autograd.grad(grad.square().sum(), [q])
    out = gf.attention(q, k, v, adjacency, backend="reference")
    (grad,) = torch.autograd.grad(out.sum(), [q], create_graph=True)
    (expected,) = torch.autograd.grad(grad.square().sum(), [q])
    torch.testing.assert_close(second, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.skipif(INTERPRETED, reason="CUDA graphs need a CUDA device")
def test_cuda_graph() -> None:
    adjacency = AWKWARD["hub"]().to(DEVICE)
    tensors = [x.requires_grad_() for x in inputs("attention", adjacency)]

    def step() -> list[Tensor]:
        out = gf.attention(*tensors, adjacency, backend="triton")
        return [out, *torch.autograd.grad(out.square().sum(), tensors)]

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    with torch.no_grad():
        for x in tensors:
            x.mul_(0.5)
    graph.replay()
    assert all(torch.equal(a, b) for a, b in zip(captured, step(), strict=True))
