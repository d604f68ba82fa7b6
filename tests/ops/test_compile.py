"""torch.compile and torch.export of a model, on rules and on edges."""

from __future__ import annotations

import pytest
import torch
from helpers.awkward import random_edges

import graphformer as gf

MAKE = {
    "complete": lambda: gf.complete([5, 11, 5]),
    "causal": lambda: gf.causal([21]),
    "window": lambda: gf.window([10, 11], 1),
    "csr": lambda: gf.from_edge_index(random_edges(21, 21, 31), 21),
}


def setup(name):
    torch._dynamo.reset()
    torch.manual_seed(3)
    model = gf.Transformer(dim=10, depth=2, num_heads=2)
    return model, torch.randn(21, 10), MAKE[name]()


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n == "causal" else []) for n in MAKE]
)
def test_compile_in_one_graph(name):
    model, x, adjacency = setup(name)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    out = compiled(x, adjacency)  # before anything is kept
    torch.testing.assert_close(out, model(x, adjacency))
    out.square().sum().backward()
    grads = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    model(x, adjacency).square().sum().backward()
    for got, p in zip(grads, model.parameters(), strict=True):
        torch.testing.assert_close(got, p.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "recomputes"),
    [
        ("causal", True),
        ("window", "attention"),
        pytest.param("causal", "attention", marks=pytest.mark.slow),
        pytest.param("window", 2, marks=pytest.mark.slow),
    ],
)
def test_compile_with_activation_checkpointing(name, recomputes):
    """The losses and gradients are those of the eager model without it (Modalities#361)."""
    model, x, adjacency = setup(name)
    loss = model(x, adjacency).square().sum()
    grads = torch.autograd.grad(loss, [*model.parameters()])
    model.activation_checkpointing = recomputes
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    again = compiled(x, adjacency).square().sum()
    torch.testing.assert_close(again, loss)
    others = torch.autograd.grad(again, [*model.parameters()])
    for got, expected in zip(others, grads, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_a_compiled_model_takes_another_adjacency():
    model, x, _ = setup("window")
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for adjacency in (gf.window(21, 1), gf.window(21, 3), gf.window(21, 1)):
        torch.testing.assert_close(compiled(x, adjacency), model(x, adjacency))
    for count in (31, 37):
        adjacency = gf.from_edge_index(random_edges(21, 21, count), 21)
        torch.testing.assert_close(compiled(x, adjacency), model(x, adjacency))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["complete", "csr"])
def test_compile_with_the_default_backend(name):
    model, x, adjacency = setup(name)
    out = torch.compile(model, fullgraph=True)(x, adjacency)
    torch.testing.assert_close(out, model(x, adjacency), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MAKE)
def test_export(name):
    model, x, adjacency = setup(name)
    program = torch.export.export(model.eval(), (x, adjacency))
    other = torch.randn_like(x)
    torch.testing.assert_close(program.module()(other, adjacency), model(other, adjacency))
    # Nothing that was made for the program is left behind.
    adjacency.to_csr(), adjacency.edge_index, adjacency.buckets
    model.train()(x, adjacency).sum().backward()


@pytest.mark.parametrize("name", MAKE)
def test_compile_with_returned_weights(name):
    torch._dynamo.reset()
    adjacency, q = MAKE[name](), torch.randn(21, 2, 5)

    def attend(q, adjacency):
        return gf.attention(q, q, q, adjacency, return_weights=True)

    compiled = torch.compile(attend, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(q, adjacency), attend(q, adjacency))


@pytest.mark.parametrize(
    "relative",
    [
        pytest.param(gf.nn.Rotary(4), id="rotary"),
        pytest.param(gf.nn.ALiBi(2), id="alibi", marks=pytest.mark.slow),
        pytest.param(gf.nn.RelativeBias(2), id="t5", marks=pytest.mark.slow),
    ],
)
def test_compile_with_relative_positions(relative):
    torch._dynamo.reset()
    torch.manual_seed(3)
    model = gf.Transformer(dim=10, depth=2, num_heads=2, position_encoding=relative)
    x = torch.randn(21, 10)
    adjacency = gf.complete([5, 11, 5])
    places = torch.cat([torch.arange(n) for n in adjacency.lengths])
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for positions in (places, None):
        out = compiled(x, adjacency, positions)
        torch.testing.assert_close(out, model(x, adjacency, positions))


GIVEN = random_edges(21, 21, 31)
MADE_INSIDE = {
    "causal": lambda n: gf.causal(n),
    "window": lambda n: gf.window([3, n - 3], 1),
    "from_edge_index": lambda n: gf.from_edge_index(GIVEN, n),
    "union": lambda n: gf.window(n, 2) | gf.complete([10, n - 10]),
    "intersection": lambda n: gf.window(n, 2) & gf.causal(n),
    "self-loops": lambda n: gf.from_edge_index(GIVEN, n).with_self_loops(),
    "pattern": lambda n: gf.patterns.Window(2) | gf.patterns.Causal(),
}
SET_OPERATIONS = ("union", "intersection", "pattern")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=[pytest.mark.slow] if n in ("intersection", "pattern") else [])
        for n in MADE_INSIDE
    ],
)
def test_an_adjacency_made_inside(name):
    model, _, _ = setup("complete")

    def forward(x):
        return model(x, MADE_INSIDE[name](x.shape[0]))

    compiled = torch.compile(forward, backend="aot_eager", fullgraph=name not in SET_OPERATIONS)
    for x in (torch.randn(21, 10), torch.randn(23, 10)):
        torch.testing.assert_close(compiled(x), forward(x))
    compiled(x).sum().backward()
