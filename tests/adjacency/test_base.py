"""Algebra, conversions and storage of adjacencies."""

from __future__ import annotations

import copy
import io
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
    with pytest.raises(TypeError, match="adjacencies: got int"):
        a | 3
    with pytest.raises(ValueError, match=r"got shapes \(5, 5\) and \(7, 7\)"):
        a & gf.window(7, 1)
    with pytest.raises(ValueError, match="one device"):
        a | a.to_csr().to("meta")
    with pytest.raises(ValueError, match="shape: got 5 targets and 7 sources"):
        gf.complete(5, 7).with_self_loops()


# Repeated edges -----------------------------------------------------------------------------------


@st.composite
def multigraphs(draw):
    count, seed = draw(st.integers(0, 23)), draw(st.integers(0, 99))
    generator = torch.Generator().manual_seed(seed)
    edges = torch.randint(3, (2, count), generator=generator)
    return gf.from_edge_index(edges, 3, coalesce=draw(st.booleans()))


def counts(adjacency):
    dense = torch.zeros(adjacency.shape, dtype=torch.int64)
    source, target = adjacency.edge_index
    return dense.index_put_((target, source), torch.ones_like(source), accumulate=True)


@given(multigraphs(), multigraphs(), multigraphs())
def test_repeated_edges_form_a_lattice(a, b, c):
    """A union has the larger number of each edge, an intersection the smaller one."""
    A, B, C = counts(a), counts(b), counts(c)
    assert torch.equal(counts(a | b), A.maximum(B))
    assert torch.equal(counts(a & b), A.minimum(B))
    assert torch.equal(counts(gf.union([a, b, c])), A.maximum(B).maximum(C))
    assert torch.equal(counts(a | (a & b)), A)
    assert torch.equal(counts(a & (b | c)), counts((a & b) | (a & c)))
    assert torch.equal(counts((a | b).T), A.maximum(B).T)
    assert (a | b).is_coalesced == (a.is_coalesced and b.is_coalesced) or int((A | B).max()) <= 1


def test_no_repeated_edge_is_lost():
    repeated = gf.from_edge_index(torch.tensor([[0, 0, 0, 1], [1, 1, 1, 2]]), 5, coalesce=False)
    one = gf.from_edge_index(torch.tensor([[3], [4]]), 5)
    for whole in (repeated | one, one | repeated, gf.union([one, repeated])):
        assert whole.edge_index.tolist() == [[0, 0, 0, 1, 3], [1, 1, 1, 2, 4]]
        assert whole.part_mask.sum().item() == 5
    contained = gf.from_edge_index(torch.tensor([[0], [1]]), 5)
    assert torch.equal((repeated | contained).edge_index, repeated.edge_index)
    assert (repeated & contained).num_edges == 1


# Nodes out of range -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: gf.from_edge_index(torch.tensor([[0, 1], [1, 0]]), (2, 3)),
        lambda: gf.complete(2, 3),
        lambda: gf.complete(2, 3).to_csr(),
    ],
)
@pytest.mark.parametrize(
    ("target", "source", "message"),
    [
        (0, 3, "got source 3, expected sources from 0 to 2"),
        (0, -1, "got source -1"),
        (2, 0, "got target 2, expected targets from 0 to 1"),
        (-1, 0, "got target -1"),
    ],
)
def test_nodes_out_of_range_are_refused(make, target, source, message):
    nodes = torch.tensor([target]), torch.tensor([source])
    for look_up in (make().contains, make().find_edges):
        with pytest.raises(IndexError, match=message):
            look_up(*nodes)


# Inference mode -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda a: gf.from_edge_index(torch.tensor([[0, 1, 0], [1, 2, 1]]), 7),
        lambda a: gf.from_mask(torch.eye(7).bool()),
        lambda a: a.with_self_loops(),
        lambda a: a | gf.window(7, 1),
        lambda a: a & gf.causal(7),
        lambda a: gf.batch([a, a]),
        lambda a: a.T,
        lambda a: gf.window(7, 1).to_csr(),
        lambda a: gf.adjacency.HeadEdges.of(a, gf.window(7, 1)),
    ],
)
def test_adjacencies_made_in_inference_mode_can_be_trained_with(make):
    with torch.inference_mode():
        edges = gf.from_edge_index(torch.tensor([[0, 3, 0, 2], [1, 2, 1, 5]]), 7)
        adjacency = make(edges)
    q = torch.randn(adjacency.shape[0], 2, 3, requires_grad=True)
    for backend in ("scatter", "cpu"):
        gf.attention(q, q, q, adjacency, backend=backend).sum().backward()
    csr = adjacency.to_csr()
    tensors = [csr.indptr, csr.indices, csr.edge_ids, csr.inverse_index, adjacency.edge_index]
    assert not any(x.is_inference() for x in tensors if x is not None)


# Storage ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", AWKWARD)
def test_saved_and_loaded_with_weights_only(name):
    a, file = AWKWARD[name](), io.BytesIO()
    torch.save(a, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=True).edge_index, a.edge_index)


def test_pickles_contain_no_computed_values():
    for a in (gf.complete(211), gf.from_edge_index(random_edges(7, 7, 19), 7)):
        before = len(pickle.dumps(a))
        _ = a.to_csr().by_source, a.edge_index, a.T, a.dense_mask
        assert len(pickle.dumps(a)) == before
