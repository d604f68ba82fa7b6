"""Laplacian eigenvectors against dense algebra: awkward graphs, symmetric graphs, all solvers."""

from __future__ import annotations

import networkx
import numpy as np
import pytest
from helpers.awkward_graphs import AWKWARD
from helpers.graphs import undirected
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse.linalg import ArpackNoConvergence
from torch_geometric.data import Data

from graphformer.data.graph import laplacian
from graphformer.data.graph.laplacian import laplacian_eigenvectors


def eigenvectors(data: Data, k: int) -> np.ndarray:
    return laplacian_eigenvectors(data.edge_index.numpy(), data.num_nodes, k)


def normalised_laplacian(data: Data) -> np.ndarray:
    adjacency = np.zeros((data.num_nodes, data.num_nodes))
    adjacency[tuple(data.edge_index.numpy())] = 1
    adjacency = np.maximum(adjacency, adjacency.T)
    np.fill_diagonal(adjacency, 0)
    degree = adjacency.sum(1)
    root = np.where(degree > 0, np.maximum(degree, 1) ** -0.5, 0)
    return np.diag((degree > 0).astype(float)) - root[:, None] * adjacency * root


def components(data: Data) -> list[list[int]]:
    graph = networkx.Graph()
    graph.add_nodes_from(range(data.num_nodes))
    graph.add_edges_from(data.edge_index.T.tolist())
    return [sorted(part) for part in networkx.connected_components(graph)]


def check(data: Data, k: int) -> None:
    """All k eigenvalues with their multiplicity, orthonormal, each component by itself."""
    vectors = eigenvectors(data, k)
    assert vectors.shape == (data.num_nodes, k)
    matrix = normalised_laplacian(data)
    for nodes in components(data):
        count = min(k, len(nodes) - 1)
        own, found = matrix[np.ix_(nodes, nodes)], vectors[nodes][:, :count]
        expected = np.linalg.eigvalsh(own)[1 : count + 1]
        np.testing.assert_allclose(found.T @ found, np.eye(count), rtol=0, atol=1e-7)
        np.testing.assert_allclose(own @ found, found * expected, rtol=0, atol=1e-6)
        assert not vectors[nodes][:, count:].any(), "a small component has no more eigenvectors"
        if count:
            largest = np.abs(found).max(0)
            np.testing.assert_allclose(found.max(0), largest, rtol=2e-6, err_msg="signs")


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_graphs(name: str) -> None:
    check(AWKWARD[name], 4)


SYMMETRIC = {
    "grid": networkx.grid_2d_graph(13, 13),
    "torus": networkx.grid_2d_graph(11, 13, periodic=True),
    "cubic-torus": networkx.grid_graph((7, 7, 7), periodic=True),
    "cycle": networkx.cycle_graph(131),
    "tree": networkx.balanced_tree(2, 7),
    "star": networkx.star_graph(136),
    "hypercube": networkx.hypercube_graph(8),
    "complete-bipartite": networkx.complete_bipartite_graph(67, 71),
    "ring-of-cliques": networkx.ring_of_cliques(19, 7),
    "ladder": networkx.circular_ladder_graph(67),
    "petersen-copies": networkx.disjoint_union(
        networkx.cycle_graph(131), networkx.grid_2d_graph(12, 12)
    ),
}


@pytest.mark.parametrize("name", SYMMETRIC)
@pytest.mark.parametrize("k", [1, 4, 13])
def test_repeated_eigenvalues_are_complete(name: str, k: int) -> None:
    data = undirected(SYMMETRIC[name])
    assert data.num_nodes > 128, "below, the dense solver is used"
    check(data, k)


@given(
    n=st.integers(65, 90),
    steps=st.sets(st.integers(1, 30), min_size=1, max_size=3),
    k=st.integers(1, 11),
)
def test_circulant_graphs(n: int, steps: set[int], k: int) -> None:
    """All eigenvalues of a circulant graph but one or two are repeated."""
    check(undirected(networkx.circulant_graph(2 * n + 1, sorted(steps))), k)


@pytest.mark.parametrize("solver", ["lanczos", "inverse", "dense"])
def test_large_graphs_by_any_solver(solver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    solve = laplacian.eigsh

    def limited(*args: object, **options: object) -> object:
        used.append("inverse" if "sigma" in options else "lanczos")
        if solver == "dense" or (solver == "inverse" and len(used) == 1):
            raise ArpackNoConvergence("no convergence", np.empty(0), np.empty((0, 0)))
        return solve(*args, **options)

    monkeypatch.setattr(laplacian, "eigsh", limited)
    check(undirected(networkx.random_regular_graph(4, 307, 1)), 5)
    assert used[:2] == (["lanczos"] * 2 if solver == "lanczos" else ["lanczos", "inverse"])


def test_a_long_path_falls_back_to_shift_invert() -> None:
    check(undirected(networkx.path_graph(307)), 5)


def test_a_graph_for_which_no_solver_converges(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **options: object) -> None:
        raise ArpackNoConvergence("no convergence", np.empty(0), np.empty((0, 0)))

    monkeypatch.setattr(laplacian, "eigsh", fail)
    monkeypatch.setattr(laplacian, "_MAX_DENSE_FALLBACK", 200)
    with pytest.raises(RuntimeError, match="laplacian: got 3 eigenvectors of a component of 307"):
        eigenvectors(undirected(networkx.path_graph(307)), 3)


def test_a_repeat_gives_the_same_bits() -> None:
    data = undirected(SYMMETRIC["torus"])
    assert np.array_equal(eigenvectors(data, 5), eigenvectors(data, 5))
