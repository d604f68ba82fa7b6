"""Shortest paths and random walks against networkx and matrix powers."""

from __future__ import annotations

import networkx
import numpy as np
import pytest
from helpers.awkward import random_edges
from helpers.awkward_graphs import AWKWARD, graph
from helpers.graphs import undirected
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import Data

from graphformer.data.graph.kernels import traversal
from graphformer.data.graph.kernels.traversal import (
    make_neighbor_lists,
    return_probabilities,
    shortest_paths,
)


def lists(data: Data) -> tuple[traversal.NeighborLists, traversal.NeighborLists]:
    """Out-neighbours and in-neighbours."""
    source, target = data.edge_index.numpy()
    nodes = data.num_nodes
    return make_neighbor_lists(source, target, nodes), make_neighbor_lists(target, source, nodes)


def test_neighbor_lists_keep_the_order_of_the_edges() -> None:
    node, neighbor = np.array([2, 0, 2, 4, 2]), np.array([1, 3, 0, 4, 1])
    indptr, neighbors = make_neighbor_lists(node, neighbor, 5)
    assert indptr.tolist() == [0, 1, 1, 4, 4, 5]
    assert neighbors.tolist() == [3, 1, 0, 1, 4]


def check_paths(data: Data, radius: int) -> None:
    """Pairs and lengths are those of networkx; every step of a path is an edge."""
    nodes = networkx.DiGraph()
    nodes.add_nodes_from(range(data.num_nodes))
    nodes.add_edges_from(data.edge_index.T.tolist())
    outgoing, _ = lists(data)
    paths, lengths = shortest_paths(outgoing, radius, nodes=True)
    ends, end_lengths = shortest_paths(outgoing, radius, nodes=False)
    assert np.array_equal(ends, paths[[0, -1]])
    assert np.array_equal(end_lengths, lengths)
    expected = {
        (source, target): length
        for source, found in networkx.all_pairs_shortest_path_length(nodes, cutoff=radius)
        for target, length in found.items()
    }
    assert len(expected) == len(lengths)
    for path, length in zip(paths.T.tolist(), lengths.tolist(), strict=True):
        assert expected[path[0], path[-1]] == length
        assert all(nodes.has_edge(*path[n : n + 2]) for n in range(length))
        assert set(path[length:]) == {path[-1]}, "the target is repeated"


@pytest.mark.parametrize("name", AWKWARD)
@pytest.mark.parametrize("radius", [1, 3])
def test_shortest_paths_are_those_of_networkx(name: str, radius: int) -> None:
    check_paths(AWKWARD[name], radius)


@given(nodes=st.integers(1, 23), count=st.integers(0, 60), seed=st.integers(0, 99))
def test_shortest_paths_of_any_graph(nodes: int, count: int, seed: int) -> None:
    check_paths(graph(nodes, random_edges(nodes, nodes, count, seed)), 4)


def check_walks(data: Data, steps: int) -> None:
    """Column k - 1 is the diagonal of the k-th power of the transition matrix."""
    count = np.zeros((data.num_nodes, data.num_nodes))
    np.add.at(count, tuple(data.edge_index.numpy()), 1.0)
    transition = count / np.maximum(count.sum(1, keepdims=True), 1)
    powers = [np.linalg.matrix_power(transition, k + 1).diagonal() for k in range(steps)]
    np.testing.assert_allclose(
        return_probabilities(*lists(data), steps), np.stack(powers, axis=1), atol=1e-12
    )


@pytest.mark.parametrize("name", AWKWARD)
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_return_probabilities_are_powers_of_the_transition_matrix(name: str, steps: int) -> None:
    check_walks(AWKWARD[name], steps)


@given(nodes=st.integers(1, 23), count=st.integers(0, 60), seed=st.integers(0, 99))
def test_return_probabilities_of_any_graph(nodes: int, count: int, seed: int) -> None:
    check_walks(graph(nodes, random_edges(nodes, nodes, count, seed)), 5)


def test_probabilities_that_underflow_stay_zero() -> None:
    """A walk out of a hub with a probability below the smallest double does not corrupt lists."""
    chain = networkx.path_graph(5)
    probabilities = return_probabilities(*lists(undirected(chain)), 2001)
    assert np.isfinite(probabilities).all()
    assert (probabilities[:, ::2] == 0).all(), "a bipartite graph has no odd closed walk"


def test_threads_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    outgoing, incoming = lists(undirected(networkx.random_regular_graph(3, 1024, 5)))
    paths, lengths = shortest_paths(outgoing, 4, nodes=True)
    probabilities = return_probabilities(outgoing, incoming, 5)
    monkeypatch.setattr(traversal, "_num_threads", lambda: 3)
    assert np.array_equal(shortest_paths(outgoing, 4, nodes=True)[0], paths)
    assert np.array_equal(shortest_paths(outgoing, 4, nodes=True)[1], lengths)
    assert np.array_equal(return_probabilities(outgoing, incoming, 5), probabilities)


def test_too_many_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traversal, "_MAX_PAIRS", 100)
    outgoing, _ = lists(AWKWARD["hub"])
    with pytest.raises(ValueError, match="max_distance: got 3, .* 18 nodes has 324 pairs"):
        shortest_paths(outgoing, 3, nodes=False)
