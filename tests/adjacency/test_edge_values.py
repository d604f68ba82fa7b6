"""Values of an edge list aligned with adjacencies of other edges or another order."""

from __future__ import annotations

import pytest
import torch
from helpers.awkward import AWKWARD, random_edges
from hypothesis import given
from hypothesis import strategies as st

import graphformer as gf
from graphformer.adjacency import edge_values


@pytest.mark.parametrize("name", AWKWARD)
def test_find_edges_gives_columns_of_edge_index(name):
    adjacency = AWKWARD[name]()
    source, target = adjacency.edge_index
    assert torch.equal(adjacency.find_edges(target, source), torch.arange(adjacency.num_edges))
    if not all(adjacency.shape):
        return
    grid = torch.cartesian_prod(*(torch.arange(n) for n in adjacency.shape))
    present = adjacency.find_edges(grid[:, 0], grid[:, 1]) >= 0
    assert torch.equal(present, adjacency.to_mask().flatten())


@given(count=st.integers(0, 40), seed=st.integers(0, 5))
def test_values_go_where_their_edges_are(count, seed):
    edges = random_edges(7, 7, count, seed)
    values = torch.randn(edges.shape[1], 3)
    adjacency = gf.window(7, 2)
    aligned = edge_values(adjacency, edges, values, fill=-5)
    source, target = adjacency.edge_index
    dense = torch.full((7, 7, 3), -5.0)
    dense[edges[1], edges[0]] = values
    assert torch.equal(aligned, dense[target, source])


def test_the_same_edges_keep_their_values():
    edges = random_edges(11, 11, 23)
    values = torch.randn(23, 2, requires_grad=True)
    assert edge_values(gf.from_edge_index(edges, 11), edges, values) is values


def test_gradients_reach_the_values():
    edges = random_edges(5, 5, 13)
    values = torch.randn(13, requires_grad=True)
    edge_values(gf.complete(5), edges, values).sum().backward()
    assert torch.equal(values.grad, torch.ones(13))


def test_duplicates_must_have_equal_values():
    edges = torch.tensor([[0, 1, 0], [1, 2, 1]])
    adjacency = gf.from_edge_index(edges, 3)
    equal = edge_values(adjacency, edges, torch.tensor([2.0, 3.0, 2.0]))
    assert equal.tolist() == [2, 3]
    with pytest.raises(ValueError, match="different values for duplicates"):
        edge_values(adjacency, edges, torch.tensor([2.0, 3.0, 5.0]))


def test_a_wrong_number_of_values():
    with pytest.raises(ValueError, match="values: got shape .* expected 3 rows"):
        edge_values(gf.complete(3), torch.tensor([[0, 1, 0], [1, 2, 1]]), torch.ones(2))


def test_nan_is_equal_to_nan():
    edges = torch.tensor([[0, 0, 1], [1, 1, 2]])
    nan = torch.tensor([torch.nan, torch.nan, 3.0])
    aligned = edge_values(gf.complete(3), edges, nan)
    assert aligned.isnan().sum() == 1
    with pytest.raises(ValueError, match="different values for duplicates"):
        edge_values(gf.complete(3), edges, torch.tensor([torch.nan, 2.0, 3.0]))


def test_nodes_out_of_range_are_refused():
    adjacency = gf.from_edge_index(torch.tensor([[0, 1], [1, 0]]), (2, 3))
    with pytest.raises(IndexError, match="got source 3, expected sources from 0 to 2"):
        edge_values(adjacency, torch.tensor([[3], [0]]), torch.tensor([9.0]))


def test_parallel_edges_keep_their_own_values():
    edges = torch.tensor([[0, 0, 2, 0, 1], [1, 1, 1, 2, 0]])
    values = torch.arange(10.0).view(5, 2)
    adjacency = gf.from_edge_index(edges, 3, coalesce=False)
    assert torch.equal(edge_values(adjacency, edges, values), values)
    loops = edge_values(adjacency.with_self_loops(), edges, values, fill=7)
    assert torch.equal(loops, torch.cat([values, torch.full((3, 2), 7.0)]))
    # Another order of the edges: the k-th occurrence has the k-th value.
    order = adjacency.to_csr().canonical().edge_index
    aligned = edge_values(adjacency.canonical(), edges, values)
    for edge in ([0, 1], [2, 1], [0, 2], [1, 0]):
        column = torch.tensor(edge).unsqueeze(1)
        here, there = (order == column).all(0), (edges == column).all(0)
        assert torch.equal(aligned[here], values[there])
    # One value for a pair of nodes is that of all its edges.
    shared = edge_values(adjacency, edges[:, :1], torch.tensor([3.0]))
    assert shared.tolist() == [3, 3, 0, 0, 0]
    with pytest.raises(ValueError, match="more duplicates of an edge"):
        edge_values(adjacency, edges[:, [0, 1, 0]], torch.arange(3.0))
