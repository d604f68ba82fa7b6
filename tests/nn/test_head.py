"""Pooling against loops, and the head."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import Data

import graphformer as gf
from graphformer.nn import Head, Pooling, pool
from graphformer.patterns.fields import Layout

REDUCE = {
    "mean": lambda x: x.mean(0),
    "sum": lambda x: x.sum(0),
    "max": lambda x: x.amax(0),
    "cls": lambda x: x[0],
    "last": lambda x: x[-1],
}


@pytest.mark.parametrize("how", REDUCE)
@given(lengths=st.lists(st.integers(0, 5), max_size=5))
def test_pool(how, lengths):
    if how in ("cls", "last"):
        lengths = [n + 1 for n in lengths]
    x = torch.randn(sum(lengths), 3, dtype=torch.float64, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    parts = y.split(lengths) if lengths else []
    rows = [REDUCE[how](part) if len(part) else torch.zeros(3).double() for part in parts]
    expected = torch.stack(rows) if rows else torch.zeros(0, 3, dtype=torch.float64)
    out = pool(x, tuple(lengths), how)
    torch.testing.assert_close(out, expected)
    if len(x):
        out.square().sum().backward()
        expected.square().sum().backward()
        torch.testing.assert_close(x.grad, y.grad)


@pytest.mark.parametrize(
    ("lengths", "how", "match"),
    [
        ((3, 4), "median", "pool: got 'median', expected one of mean, sum"),
        ((7, 0), "last", "lengths: got an empty sample, expected none for pool='last'"),
        ((0, 7), "cls", "expected none for pool='cls'"),
        ((3, 3), "sum", "expected the 7 nodes of x"),
        ((3, 2), "last", "expected the 7 nodes of x"),
    ],
)
def test_errors(lengths, how, match):
    with pytest.raises(ValueError, match=match):
        pool(torch.zeros(7, 3), lengths, how)


def test_head():
    x, batch = torch.randn(7, 3), Data(lengths=(2, 5), num_nodes=7)
    nodes, graphs = Head(3, 5), Head(3, 5, pool="sum")
    assert torch.equal(nodes(x, batch), nodes.linear(x))
    assert torch.equal(graphs(x, batch), graphs.linear(pool(x, (2, 5), "sum")))
    before = torch.nn.Linear(3, 3)
    both = Head(3, 5, pool="cls", transform=before)
    torch.testing.assert_close(both(x, batch), both.linear(before(x[[0, 2]])))


def test_pooling():
    x, batch = torch.randn(7, 3), Data(lengths=(2, 5), num_nodes=7)
    assert torch.equal(Pooling("max")(x, batch), pool(x, (2, 5), "max"))
    out = Pooling("last", normalize=True)(x, batch)
    torch.testing.assert_close(out, x[[1, 6]] / x[[1, 6]].norm(dim=1, keepdim=True))


@pytest.mark.parametrize("old", ["first", "class"])
@pytest.mark.parametrize(
    "make",
    [
        lambda old: Head(3, 5, pool=old),
        lambda old: Pooling(old),
        lambda old: gf.models.sentence_embedder(7, pool=old, dim=4, depth=1).head,
    ],
)
def test_old_names_of_the_class_token_warn(make, old):
    with pytest.warns(FutureWarning, match=f"pool='{old}' is now called pool='cls'"):
        assert make(old).pool == "cls"


def test_an_unknown_pooling_is_refused_when_it_is_chosen():
    for make in (Pooling, lambda how: Head(3, 5, pool=how)):
        with pytest.raises(ValueError, match="pool: got 'middle'"):
            make("middle")


def test_a_layout_serves_as_batch():
    x = torch.randn(7, 3)
    assert torch.equal(Pooling("sum")(x, Layout((2, 5))), pool(x, (2, 5), "sum"))


@pytest.mark.parametrize("lengths", [(3, 5, 1), (4, 4)])
def test_weighted_poolings(lengths: tuple[int, ...]):
    x = torch.randn(sum(lengths), 7)
    parts = x.split(list(lengths))
    for how, expected in {
        "mean_sqrt": [part.sum(0) / len(part) ** 0.5 for part in parts],
        "weighted_mean": [
            sum(i * row for i, row in enumerate(part, 1)) / sum(range(len(part) + 1))
            for part in parts
        ],
    }.items():
        torch.testing.assert_close(pool(x, lengths, how), torch.stack(expected))
    assert not pool(x[:3], (0, 3), "weighted_mean")[0].any()
    head = Pooling(["cls", "mean_sqrt"], transform=torch.nn.Linear(14, 2))
    assert head(x, Layout(lengths, x.device)).shape == (len(lengths), 2)
