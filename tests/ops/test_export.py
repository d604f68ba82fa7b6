"""torch.export with dynamic sizes, torch.jit.trace, and rules on the meta device."""

from __future__ import annotations

import warnings

import pytest
import torch
from helpers.awkward import random_edges
from torch import nn
from torch.export import Dim

import graphformer as gf
from graphformer import patterns


class OverMade(nn.Module):
    """A Transformer over an adjacency that is made in the forward pass."""

    def __init__(self, make):
        super().__init__()
        torch.manual_seed(3)
        self.transformer, self.make = gf.Transformer(dim=10, depth=1, num_heads=2), make

    def forward(self, x, *edges):
        return self.transformer(x, self.make(x.shape[0], *edges))


NODES = {
    "complete": gf.complete,
    "causal": gf.causal,
    "window": lambda n: gf.window(n, 2),
    "window-causal": lambda n: gf.window(n, 2, causal=True),
    "pattern": lambda n: patterns.Causal(),
}
EDGES = {
    "from_edge_index": lambda n, edges: gf.from_edge_index(edges, n),
    "repeated": lambda n, edges: gf.from_edge_index(edges, n, coalesce=False),
    "self-loops": lambda n, edges: gf.from_edge_index(edges, n).with_self_loops(),
    "edge_index": lambda n, edges: edges,
}


@pytest.mark.parametrize("name", NODES)
def test_a_rule_over_a_dynamic_number_of_nodes(name):
    model = OverMade(NODES[name]).eval()
    program = torch.export.export(
        model, (torch.randn(7, 10),), dynamic_shapes=({0: Dim("N", min=2)},)
    )
    for nodes in (3, 7, 23):
        x = torch.randn(nodes, 10)
        torch.testing.assert_close(program.module()(x), model(x))


@pytest.mark.parametrize("name", EDGES)
def test_dynamic_numbers_of_nodes_and_edges(name):
    model = OverMade(EDGES[name]).eval()
    repeated = torch.cat([random_edges(7, 7, 19), random_edges(7, 7, 19)[:, :5]], dim=1)
    sizes = {0: Dim("N", min=2)}, {1: Dim("E", min=2)}
    program = torch.export.export(
        model, (torch.randn(7, 10), repeated), dynamic_shapes={"x": sizes[0], "edges": (sizes[1],)}
    )
    for nodes, edges in ((7, repeated), (11, random_edges(11, 11, 31)), (5, random_edges(5, 5, 3))):
        x = torch.randn(nodes, 10)
        torch.testing.assert_close(program.module()(x, edges), model(x, edges))
    with pytest.raises(RuntimeError, match="edge_index: expected"):
        program.module()(torch.randn(5, 10), repeated)


def test_several_samples_of_dynamic_length_are_refused():
    model = OverMade(lambda n: gf.complete([n - 3, 3])).eval()
    with pytest.raises(ValueError, match="lengths: got several samples of symbolic length"):
        torch.export.export(model, (torch.randn(7, 10),), dynamic_shapes=({0: Dim("N", min=5)},))


@pytest.mark.parametrize(
    "make",
    [
        lambda: gf.complete(7),
        lambda: gf.complete([2, 5]),
        lambda: gf.window(7, 1),
        lambda: gf.from_edge_index(random_edges(7, 7, 19), 7),
    ],
)
def test_jit_trace(make):
    adjacency, q = make(), torch.randn(7, 2, 5)

    def attend(q):
        return gf.attention(q, q.sin(), q, adjacency)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sizes become constants; torch.jit.trace is deprecated
        traced = torch.jit.trace(attend, (q,))
    other = torch.randn_like(q)
    torch.testing.assert_close(traced(other), attend(other))


@pytest.mark.parametrize(
    "rule",
    [gf.complete([5, 3, 7]), gf.causal([4, 11]), gf.window([8, 7], 2), gf.grid((3, 5))],
    ids=str,
)
@pytest.mark.parametrize("backend", ["auto", "sdpa", "scatter", "reference"])
def test_rules_on_the_meta_device(rule, backend):
    q = torch.randn(15, 2, 3, device="meta")
    assert rule.to("meta").num_edges == rule.num_edges
    out = gf.attention(q, q, q, rule, backend=backend)
    assert out.device.type == "meta"
    assert out.shape == q.shape


@pytest.mark.parametrize(
    "make", [gf.causal, lambda n: gf.from_edge_index(random_edges(n, n, 19), n)]
)
def test_an_adjacency_that_is_a_constant_is_usable_after_the_export(make):
    adjacency, q = make(7), torch.randn(7, 2, 5)

    class Attend(nn.Module):
        def forward(self, q):
            return gf.attention(q, q.sin(), q, adjacency, backend="reference")

    program = torch.export.export(Attend(), (q,))
    other = torch.randn_like(q)
    got, expected = program.module()(other), Attend()(other)
    assert type(expected) is torch.Tensor
    torch.testing.assert_close(got, expected)
