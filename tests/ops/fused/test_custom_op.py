"""The fused attention of the CPU as an operator of torch: checked, compiled, under autocast."""

from __future__ import annotations

import pytest
import torch
from helpers.cpu_cases import (
    BIPARTITE,
    FUNCTIONS,
    OPTIONS,
    PLAIN,
    assert_same_bits,
    attention_options,
    function_options,
    hub,
    inputs,
    results,
)
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import graphformer as gf
from graphformer.adjacency import Adjacency, window
from graphformer.ops import cpu
from graphformer.ops.fused import custom_op
from graphformer.ops.fused.operands import Cotangents, Gradients, Inputs, Settings


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_opcheck(function: str, options: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from graphformer.ops.cpu import attend

    calls = []
    monkeypatch.setattr(cpu, "attend", lambda *args: calls.append(args) or attend(*args))
    tensors = [x.requires_grad_() for x in inputs(function, BIPARTITE)]
    own, edge_options = (
        function_options(function, BIPARTITE),
        attention_options(BIPARTITE, OPTIONS[options]),
    )
    getattr(cpu, function)(*tensors, BIPARTITE, **own, **edge_options)
    arguments = tuple(
        x.detach().requires_grad_(x.is_floating_point()) if isinstance(x, Tensor) else x
        for x in calls[0]
    )
    operator = torch.ops.graphformer.cpu_attend.default
    torch.library.opcheck(operator, arguments, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_plain_calls_have_the_bits_of_the_operator(
    function: str, options: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = inputs(function, BIPARTITE)
    own = function_options(function, BIPARTITE)
    edge_options = attention_options(BIPARTITE, OPTIONS[options])
    plain = results(cpu, function, tensors, BIPARTITE, **own, **edge_options)
    monkeypatch.setattr(custom_op, "is_plain", lambda _: False)
    assert_same_bits([plain, results(cpu, function, tensors, BIPARTITE, **own, **edge_options)])


def test_modes_that_intercept_operators_see_the_operator() -> None:
    class Names(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            names.append(str(function))
            return function(*args, **(kwargs or {}))

    names: list[str] = []
    x = torch.randn(23, 2, 7, requires_grad=True)
    with Names():
        gf.attention(x, x, x, gf.window(23, 3).to_csr()).sum().backward()
    assert "graphformer.cpu_attend.default" in names
    assert "graphformer.cpu_attend_backward.default" in names


@pytest.mark.slow
@pytest.mark.parametrize("make", [lambda: hub(), lambda: window([101, 11], 3)], ids=["csr", "rule"])
def test_compiles_in_one_graph_with_inductor(make) -> None:  # type: ignore[no-untyped-def]
    torch._dynamo.reset()
    adjacency = make()
    tensors = [x.requires_grad_() for x in inputs("attention", adjacency)]

    def run(q: Tensor, k: Tensor, v: Tensor, adjacency: Adjacency) -> Tensor:
        return cpu.attention(q * 2, k, v, adjacency, scale=0.4, **PLAIN)[0].relu()

    out = torch.compile(run, fullgraph=True)(*tensors, adjacency)  # before anything is kept
    expected = run(*tensors, adjacency)
    torch.testing.assert_close(out, expected)
    grads = (torch.autograd.grad(x.square().sum(), tensors) for x in (out, expected))
    for got, want in zip(*grads, strict=True):
        torch.testing.assert_close(got, want)


def test_autocast() -> None:
    torch.manual_seed(3)
    x, y = torch.randn(23, 7), torch.randn(17, 7)
    linear = torch.nn.Linear(7, 14)
    options = attention_options(BIPARTITE, {"bias"})
    with torch.autocast("cpu", torch.bfloat16):
        q, k, v = (linear(z).unflatten(-1, (2, 7)) for z in (x, y, y))
        out, _ = cpu.attention(q, k, v, BIPARTITE, scale=0.4, **options)
    assert out.dtype == torch.bfloat16
    out.float().square().sum().backward()
    assert linear.weight.grad is not None
    assert linear.weight.grad.isfinite().all()


def test_arguments_of_the_operators_are_the_fields_of_the_tuples() -> None:
    forward = torch.ops.graphformer.cpu_attend.default._schema
    names = [argument.name for argument in forward.arguments]
    assert names == [*Inputs._fields, *Settings._fields, "return_weights"]
    backward = torch.ops.graphformer.cpu_attend_backward.default._schema
    names = [argument.name for argument in backward.arguments]
    assert names == [*Cotangents._fields, *Inputs._fields, *Settings._fields, "edge_grads"]
    assert len(backward.returns) == len(Gradients._fields)
    assert Inputs._fields[: len(Gradients._fields)] == Gradients._fields


def test_the_output_may_be_changed_in_place() -> None:
    q, k, v = (x.requires_grad_() for x in inputs("attention", BIPARTITE))
    out = gf.attention(q, k, v, BIPARTITE, backend="cpu")
    expected = torch.autograd.grad(out.sum(), (q, k, v), retain_graph=True)
    out += 1
    got = torch.autograd.grad(out.sum(), (q, k, v))
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


@pytest.mark.parametrize("needed", [["q"], ["k"], ["v"], ["q", "v"]])
def test_gradients_of_some_inputs(needed: list[str]) -> None:
    tensors = dict(zip("qkv", inputs("attention", BIPARTITE), strict=True))
    grads = []
    for names in (needed, "qkv"):
        leaves = {n: x.clone().requires_grad_(n in names) for n, x in tensors.items()}
        out = gf.attention(**leaves, adjacency=BIPARTITE, backend="cpu")
        grads.append(torch.autograd.grad(out.square().sum(), [leaves[n] for n in needed]))
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))
