"""Encodings against networkx, PyG and dense linear algebra, on awkward graphs, cached on disk."""

from __future__ import annotations

import sys
import threading
import time

import networkx
import numpy as np
import pytest
import torch
from helpers.awkward import random_edges
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.sparse.linalg import ArpackNoConvergence
from torch_geometric.data import Batch, Data
from torch_geometric.transforms import AddRandomWalkPE, Compose

from graphformer.data.graph import encoding_cache
from graphformer.data.graph.encodings import (
    AddVirtualNode,
    Degree,
    LaplacianEigenvectors,
    RandomWalk,
    ShortestPaths,
    add_encodings,
    make_transforms,
)
from graphformer.data.graph.kernels import laplacian as spectral
from graphformer.data.graph.kernels import traversal as walks
from graphformer.data.io.cache import cache_root

NONE = torch.empty(2, 0, dtype=torch.int64)


def graph(nodes, edges, **fields):
    return Data(x=torch.ones(nodes, 3), edge_index=edges, num_nodes=nodes, **fields)


def undirected(kind, *sizes):
    edges = torch.tensor(list(networkx.convert_node_labels_to_integers(kind(*sizes)).edges())).T
    nodes = int(edges.max()) + 1
    return graph(nodes, torch.cat([edges, edges.flip(0)], dim=1))


AWKWARD = {
    "one-node": graph(1, NONE),
    "no-edges": graph(5, NONE),
    "a-loop": graph(1, torch.tensor([[0], [0]])),
    "loops": graph(7, random_edges(7, 7, 31)),
    "directed": graph(11, random_edges(11, 11, 17)),
    "isolated": graph(13, random_edges(5, 5, 11)),
    "duplicates": graph(5, torch.cat([random_edges(5, 5, 7)] * 2, dim=1)),
    "disconnected": graph(
        11, torch.tensor([[0, 1, 2, 5, 6, 9], [1, 2, 0, 6, 7, 10]])
    ),
    "hub": undirected(networkx.star_graph, 17),
    "path": undirected(networkx.path_graph, 19),
}  # fmt: skip


def normalised_laplacian(data):
    adjacency = torch.zeros(data.num_nodes, data.num_nodes, dtype=torch.float64)
    adjacency[data.edge_index[0], data.edge_index[1]] = 1
    adjacency = ((adjacency + adjacency.T) > 0).double().fill_diagonal_(0)
    degree = adjacency.sum(1)
    root = torch.where(degree > 0, degree.clamp(min=1) ** -0.5, 0)
    return torch.diag((degree > 0).double()) - root.unsqueeze(1) * adjacency * root


def components(data):
    nodes = networkx.Graph()
    nodes.add_nodes_from(range(data.num_nodes))
    nodes.add_edges_from(data.edge_index.T.tolist())
    return [sorted(part) for part in networkx.connected_components(nodes)]


@pytest.mark.parametrize("name", AWKWARD)
def test_eigenvectors_are_those_of_dense_algebra(name):
    data, k = AWKWARD[name], 4
    vectors = LaplacianEigenvectors(k)(data).laplacian_pe.double()
    assert vectors.shape == (data.num_nodes, k)
    laplacian = normalised_laplacian(data)
    for nodes in components(data):
        part, count = vectors[nodes], min(k, len(nodes) - 1)
        own = laplacian[nodes][:, nodes]
        expected = torch.linalg.eigvalsh(own)[1 : count + 1]
        found = part[:, :count]
        torch.testing.assert_close(found.T @ found, torch.eye(count).double(), rtol=0, atol=1e-5)
        residual = own @ found - found * expected
        torch.testing.assert_close(residual, torch.zeros_like(residual), rtol=0, atol=1e-5)
        assert not part[:, count:].any(), "too few nodes for more"
        if count:
            torch.testing.assert_close(found.amax(0), found.abs().amax(0), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["lanczos", "inverse", "dense"])
def test_large_graphs_by_any_solver(kind, monkeypatch):
    if kind == "lanczos":
        data = undirected(networkx.random_regular_graph, 4, 307, 1)
    else:
        data = undirected(networkx.path_graph, 307)
    ways = []

    def counted(*args, solve=spectral.eigsh, **options):
        ways.append("inverse" if "sigma" in options else "lanczos")
        if kind == "dense" or (kind == "inverse" and "sigma" not in options):
            raise ArpackNoConvergence("no convergence", np.empty(0), np.empty((0, 0)))
        return solve(*args, **options)

    monkeypatch.setattr(spectral, "eigsh", counted)
    found = LaplacianEigenvectors(5)(data).laplacian_pe.double()
    laplacian = normalised_laplacian(data)
    expected = torch.linalg.eigvalsh(laplacian)[1:6]
    torch.testing.assert_close(laplacian @ found, found * expected, rtol=0, atol=1e-5)
    assert ways == (["lanczos"] if kind == "lanczos" else ["lanczos", "inverse"])


def test_a_graph_that_no_solver_manages(monkeypatch):
    def fail(*args, **options):
        raise ArpackNoConvergence("no convergence", np.empty(0), np.empty((0, 0)))

    monkeypatch.setattr(spectral, "eigsh", fail)
    monkeypatch.setattr(spectral, "_MAX_DENSE_FALLBACK", 200)
    with pytest.raises(RuntimeError, match="no solver found 3 eigenvectors of a component of 307"):
        LaplacianEigenvectors(3)(undirected(networkx.path_graph, 307))


@pytest.mark.parametrize("name", AWKWARD)
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_random_walks_are_powers_of_the_transition_matrix(name, steps):
    data = AWKWARD[name]
    found = RandomWalk(steps)(data).random_walk_pe.double()
    count = torch.zeros(data.num_nodes, data.num_nodes, dtype=torch.float64)
    count.index_put_(tuple(data.edge_index), torch.tensor(1.0).double(), accumulate=True)
    transition = count / count.sum(1, keepdim=True).clamp(min=1)
    powers = [torch.linalg.matrix_power(transition, k + 1).diagonal() for k in range(steps)]
    torch.testing.assert_close(found, torch.stack(powers, dim=1), rtol=0, atol=1e-6)


def test_random_walks_are_pygs():
    data = graph(37, random_edges(37, 37, 151))
    expected = AddRandomWalkPE(6)(data).random_walk_pe
    torch.testing.assert_close(RandomWalk(6)(data).random_walk_pe, expected)


@pytest.mark.parametrize("name", AWKWARD)
def test_degrees(name):
    data = Degree()(AWKWARD[name])
    source, target = data.edge_index.tolist()
    assert data.in_degree.tolist() == [target.count(i) for i in range(data.num_nodes)]
    assert data.out_degree.tolist() == [source.count(i) for i in range(data.num_nodes)]


def check_paths(data, radius):
    """All pairs and lengths of networkx; every step an edge."""
    nodes = networkx.DiGraph()
    nodes.add_nodes_from(range(data.num_nodes))
    nodes.add_edges_from(data.edge_index.T.tolist())
    made = ShortestPaths(radius)(data)
    ends = ShortestPaths(radius, nodes=False)(data)
    assert torch.equal(ends.path_index, made.path_index[[0, -1]])
    assert torch.equal(ends.path_length, made.path_length)
    expected = {
        (source, target): length
        for source, found in networkx.all_pairs_shortest_path_length(nodes, cutoff=radius)
        for target, length in found.items()
    }
    assert len(expected) == len(made.path_length)
    paths, lengths = made.path_index.T.tolist(), made.path_length.tolist()
    for path, length in zip(paths, lengths, strict=True):
        assert expected[path[0], path[-1]] == length
        assert all(nodes.has_edge(*path[n : n + 2]) for n in range(length))
        assert set(path[length:]) == {path[-1]}, "the target is repeated"


@pytest.mark.parametrize("name", AWKWARD)
@pytest.mark.parametrize("radius", [1, 3])
def test_shortest_paths_are_networkxs(name, radius):
    check_paths(AWKWARD[name], radius)


@given(nodes=st.integers(1, 23), count=st.integers(0, 60), seed=st.integers(0, 99))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_shortest_paths_of_any_graph(nodes, count, seed):
    check_paths(graph(nodes, random_edges(nodes, nodes, count, seed)), 4)


def test_many_nodes_are_searched_side_by_side(monkeypatch):
    data = undirected(networkx.random_regular_graph, 3, 1024, 5)
    once = ShortestPaths(4)(data), RandomWalk(5)(data)
    monkeypatch.setattr(walks, "_num_threads", lambda: 3)
    again = ShortestPaths(4)(data), RandomWalk(5)(data)
    assert torch.equal(once[0].path_index, again[0].path_index)
    assert torch.equal(once[1].random_walk_pe, again[1].random_walk_pe)


def test_too_many_pairs(monkeypatch):
    monkeypatch.setattr(walks, "_MAX_PAIRS", 100)
    with pytest.raises(ValueError, match=r"max_distance 3 is too large .* 324 pairs"):
        ShortestPaths(3)(AWKWARD["hub"])


def test_pyg_batches_them_right():
    graphs = [ShortestPaths(2)(AWKWARD[name]) for name in ("path", "one-node", "directed")]
    batch = Batch.from_data_list(graphs)
    whole = ShortestPaths(2)(Data(edge_index=batch.edge_index, num_nodes=batch.num_nodes))
    assert torch.equal(batch.path_index, whole.path_index)
    assert torch.equal(batch.path_length, whole.path_length)


def test_a_virtual_node_is_appended():
    data = graph(3, torch.tensor([[0, 1], [1, 2]]), y=torch.tensor([1.5]), edge_attr=torch.ones(2))
    made = Compose([Degree(), AddVirtualNode()])(data)
    assert made.num_nodes == 4
    assert made.x.shape == (4, 3)
    assert not made.x[3].any()
    assert made.in_degree.tolist() == [0, 1, 1, 0]
    assert made.virtual_mask.tolist() == [False, False, False, True]
    assert made.y.tolist() == [1.5], "the label is the graph's"
    assert data.num_nodes == 3, "what came in stays"
    masks = {name: torch.ones(3, dtype=torch.bool) for name in ("train_mask", "test_mask")}
    nodes = AddVirtualNode()(graph(3, NONE, y=torch.tensor([2, 0, 1]), lengths=(3,), **masks))
    assert nodes.train_mask.tolist() == [True, True, True, False]
    assert len(nodes.y) == 4
    assert nodes.lengths == (4,)
    batch = Batch.from_data_list([made, made])
    assert batch.ptr.tolist() == [0, 4, 8]


def test_names_make_transforms():
    names = ["virtual_node", "laplacian:3", "degree:9", "random_walk:5", "shortest_path:2"]
    kinds = [type(made).__name__ for made in make_transforms(names)]
    assert kinds[-1] == "AddVirtualNode", "last, so that it is in no other encoding"
    assert sorted(kinds[:-1]) == ["Degree", "LaplacianEigenvectors", "RandomWalk", "ShortestPaths"]
    assert make_transforms(None) == []


@pytest.mark.parametrize("kind", [LaplacianEigenvectors, RandomWalk, ShortestPaths])
def test_numbers_below_one(kind):
    with pytest.raises(ValueError, match="must be at least 1, got 0"):
        kind(0)


ENCODINGS = ["laplacian:3", "random_walk:4", "degree:5", "shortest_path:2"]


def test_encode_adds_all_and_keeps_them_on_disk(monkeypatch):
    graphs = list(AWKWARD.values())
    made = add_encodings(graphs, [*ENCODINGS, "virtual_node"])
    assert all("laplacian_pe" not in graph for graph in graphs), "what came in stays"
    files = sorted((cache_root() / "encodings").iterdir())
    assert len(files) == 4

    def forbidden(*args):
        raise AssertionError("made twice")

    for kind in (LaplacianEigenvectors, RandomWalk, Degree, ShortestPaths):
        monkeypatch.setattr(kind, "fields", forbidden)
    again = add_encodings(graphs, [*ENCODINGS, "virtual_node"])
    for one, other in zip(made, again, strict=True):
        assert sorted(one.keys()) == sorted(other.keys())
        for name, value in one.to_dict().items():
            if isinstance(value, torch.Tensor):
                assert value.dtype == other[name].dtype
                assert torch.equal(value, other[name]), name
    with pytest.raises(AssertionError, match="made twice"):
        add_encodings(graphs[1:], ENCODINGS)
    with pytest.raises(AssertionError, match="made twice"):
        add_encodings(graphs, ["laplacian:4"])


def test_a_file_that_cannot_be_read_is_made_anew():
    (made,) = add_encodings([AWKWARD["path"]], ["laplacian:3"])
    (file,) = (cache_root() / "encodings").iterdir()
    file.write_bytes(file.read_bytes()[:40])
    (again,) = add_encodings([AWKWARD["path"]], ["laplacian:3"])
    assert torch.equal(made.laplacian_pe, again.laplacian_pe)
    assert len(list((cache_root() / "encodings").iterdir())) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="has no such locks")
def test_of_two_that_want_the_same_one_waits_and_reads(monkeypatch):
    plain, made = Degree.fields, []

    def slow(self, *graph):
        made.append(threading.get_ident())
        entered.set()
        time.sleep(0.3)
        return plain(self, *graph)

    entered = threading.Event()
    monkeypatch.setattr(Degree, "fields", slow)
    first = threading.Thread(target=add_encodings, args=([AWKWARD["path"]], ["degree:3"]))
    first.start()
    assert entered.wait(60)
    (second,) = add_encodings([AWKWARD["path"]], ["degree:3"])
    first.join()
    assert len(made) == 1
    assert "in_degree" in second


def test_nothing_half_written_stays(monkeypatch):
    def fail(*args):
        raise OSError("disk is full")

    monkeypatch.setattr(encoding_cache, "save_file", fail)
    with pytest.raises(OSError, match="disk is full"):
        add_encodings([AWKWARD["path"]], ["degree:3"])
    assert not list((cache_root() / "encodings").iterdir())


def test_no_graphs_and_no_encodings():
    assert add_encodings([], ENCODINGS) == []
    (made,) = add_encodings([AWKWARD["path"]], None)
    assert made.keys() == AWKWARD["path"].keys()


@pytest.mark.slow
def test_many_graphs_are_done_by_several_processes(monkeypatch):
    monkeypatch.setattr(encoding_cache, "_MAX_SERIAL_SECONDS", 1e-6)
    graphs = [graph(7, random_edges(7, 7, 11, seed)) for seed in range(53)]
    made = add_encodings(graphs, ["laplacian:3"], num_workers=2)
    for one, data in zip(made, graphs, strict=True):
        assert torch.equal(one.laplacian_pe, LaplacianEigenvectors(3)(data).laplacian_pe)


def test_edges_to_nodes_that_are_not_there():
    with pytest.raises(ValueError, match="edge_index names node 5, but the graph has nodes 0 to 2"):
        RandomWalk(3)(graph(3, torch.tensor([[0], [5]])))
    with pytest.raises(ValueError, match="edge_index names node -1"):
        add_encodings([graph(3, torch.tensor([[-1], [0]]))], ENCODINGS)
