"""The algebra and the conversions that all adjacencies share."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from helpers.awkward import AWKWARD, random_edges
from hypothesis import given
from hypothesis import strategies as st

import graphformer as gf
from graphformer.adjacency import Implicit

N = 7


@st.composite
def adjacencies(draw):
    kind = draw(st.sampled_from(["edges", "window", "complete", "causal"]))
    if kind == "edges":
        count, seed = draw(st.integers(0, N * N)), draw(st.integers(0, 99))
        return gf.from_edge_index(random_edges(N, N, count, seed), N)
    lengths = draw(st.sampled_from([[7], [2, 5], [3, 0, 4]]))
    if kind == "window":
        return gf.window(lengths, draw(st.integers(0, 3)), causal=draw(st.booleans()))
    return getattr(gf, kind)(lengths)


def mask(adjacency):
    dense = torch.zeros(adjacency.shape, dtype=torch.bool)
    for source, target in adjacency.edge_index.T.tolist():
        assert not dense[target, source], "an edge twice"
        dense[target, source] = True
    return dense


@given(adjacencies(), adjacencies(), adjacencies())
def test_algebra_is_that_of_masks(a, b, c):
    A, B, C = mask(a), mask(b), mask(c)
    assert torch.equal(mask(a | b), A | B)
    assert torch.equal(mask(a & b), A & B)
    assert torch.equal(mask(b | a), A | B)
    assert torch.equal(mask(b & a), A & B)
    assert torch.equal(mask(a | a), A)
    assert torch.equal(mask(a & a), A)
    assert torch.equal(mask((a | b) | c), mask(a | (b | c)))
    assert torch.equal(mask(a & (b | c)), mask((a & b) | (a & c)))
    assert torch.equal(mask(a | (b & c)), (A | B) & (A | C))
    assert torch.equal(mask((a | b).T), mask(a.T | b.T))
    assert (a | b).num_edges == a.num_edges + b.num_edges - (a & b).num_edges
    complete = gf.complete(N)
    assert torch.equal(mask(a & complete), A)
    assert (a | complete).num_edges == N * N


@given(adjacencies())
def test_with_self_loops_adds_the_missing_at_the_end_and_once(a):
    looped = a.with_self_loops()
    assert torch.equal(mask(looped), mask(a) | torch.eye(N, dtype=torch.bool))
    assert torch.equal(looped.edge_index[:, : a.num_edges], a.edge_index)
    source, target = looped.edge_index[:, a.num_edges :]
    assert torch.equal(source, target)
    assert looped.with_self_loops() is looped


@pytest.mark.parametrize("name", AWKWARD)
def test_transposing_twice_changes_nothing(name):
    a = AWKWARD[name]()
    assert a.T.shape == a.shape[::-1]
    assert torch.equal(mask(a.T), mask(a).T)
    assert torch.equal(mask(a.T.T), mask(a))
    if not isinstance(a, Implicit):  # whose transpose is ordered by target anew
        assert torch.equal(a.T.T.edge_index, a.edge_index)
        assert torch.equal(a.T.edge_index, a.edge_index.flip(0)), "the edge order stays"


@pytest.mark.parametrize("name", AWKWARD)
def test_conversions(name):
    a = AWKWARD[name]()
    dense = mask(a)
    assert a.edge_index.shape == (2, a.num_edges)
    assert a.edge_index.dtype == torch.int64
    assert torch.equal(a.to_mask(), dense)
    assert torch.equal(gf.from_mask(dense).to_mask(), dense)
    assert a.num_edges == int(dense.sum())
    assert a.density == (float(dense.double().mean()) if dense.numel() else 0.0)
    assert torch.equal(a.contains(*dense.nonzero().T), torch.ones(a.num_edges, dtype=torch.bool))
    assert not a.contains(*(~dense).nonzero().T).any()
    assert str(a.num_edges) in repr(a)
    assert a.to("cpu") is a


@pytest.mark.parametrize("name", AWKWARD)
def test_networkx(name):
    a = AWKWARD[name]()
    graph, (m, n) = a.to_networkx(), a.shape
    shift = 0 if m == n else n
    assert set(graph.edges) == {(j, shift + i) for j, i in a.edge_index.T.tolist()}
    assert list(graph.nodes) == list(range(n if m == n else m + n))
    if m == n:
        assert torch.equal(gf.from_networkx(graph).to_mask(), a.to_mask())


@pytest.mark.parametrize("name", AWKWARD)
def test_pickle_and_deepcopy(name):
    a = AWKWARD[name]()
    _ = a.to_csr().by_source, a.buckets, a.T
    for other in (pickle.loads(pickle.dumps(a)), copy.deepcopy(a)):
        assert other.shape == a.shape
        assert torch.equal(other.edge_index, a.edge_index)
        assert not isinstance(a, Implicit) or (other == a and hash(other) == hash(a))


def test_errors():
    a = gf.window(5, 1)
    with pytest.raises(TypeError, match="two adjacencies, got int"):
        a | 3
    with pytest.raises(ValueError, match=r"one shape, got \(5, 5\) and \(7, 7\)"):
        a & gf.window(7, 1)
    with pytest.raises(ValueError, match="one device"):
        a | a.to_csr().to("meta")
    with pytest.raises(ValueError, match="with_self_loops needs as many targets as sources"):
        gf.complete(5, 7).with_self_loops()
