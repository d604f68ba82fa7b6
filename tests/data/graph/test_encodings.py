"""Encodings as PyG transforms: fields, names, batching, virtual nodes, and refused graphs."""

from __future__ import annotations

import pytest
import torch
from helpers.awkward import random_edges
from helpers.awkward_graphs import AWKWARD, NO_EDGES, graph
from torch_geometric.data import Batch, Data, HeteroData
from torch_geometric.transforms import AddRandomWalkPE, Compose

from graphformer.data.graph import encodings
from graphformer.data.graph.encodings import (
    AddVirtualNode,
    Degree,
    LaplacianEigenvectors,
    RandomWalk,
    ShortestPaths,
    add_encodings,
    make_transforms,
)
from graphformer.data.graph.laplacian import laplacian_eigenvectors

ENCODINGS = ["laplacian:3", "random_walk:4", "degree:5", "shortest_path:2"]


def test_eigenvectors_are_float32():
    data = AWKWARD["directed"]
    found = LaplacianEigenvectors(4)(data).laplacian_pe
    expected = laplacian_eigenvectors(data.edge_index.numpy(), 11, 4)
    assert torch.equal(found, torch.from_numpy(expected).float())


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


def test_a_batch_of_encoded_graphs_is_the_encoded_batch():
    graphs = [ShortestPaths(2)(AWKWARD[name]) for name in ("path", "one-node", "directed")]
    batch = Batch.from_data_list(graphs)
    whole = ShortestPaths(2)(Data(edge_index=batch.edge_index, num_nodes=batch.num_nodes))
    assert torch.equal(batch.path_index, whole.path_index)
    assert torch.equal(batch.path_length, whole.path_length)


def test_a_virtual_node_is_appended():
    data = graph(3, torch.tensor([[0, 1], [1, 2]]), y=torch.tensor([1.5]), edge_attr=torch.ones(2))
    added = Compose([Degree(), AddVirtualNode()])(data)
    assert added.num_nodes == 4
    assert added.x.shape == (4, 3)
    assert not added.x[3].any()
    assert added.in_degree.tolist() == [0, 1, 1, 0]
    assert added.virtual_mask.tolist() == [False, False, False, True]
    assert added.y.tolist() == [1.5], "the label is the graph's"
    assert data.num_nodes == 3, "the input is not changed"
    masks = {name: torch.ones(3, dtype=torch.bool) for name in ("train_mask", "test_mask")}
    labels = torch.tensor([2, 0, 1])
    nodes = AddVirtualNode()(graph(3, NO_EDGES, y=labels, lengths=(3,), **masks))
    assert nodes.train_mask.tolist() == [True, True, True, False]
    assert len(nodes.y) == 4
    assert nodes.lengths == (4,)
    batch = Batch.from_data_list([added, added])
    assert batch.ptr.tolist() == [0, 4, 8]


def test_names_make_transforms():
    names = ["virtual_node", "laplacian:3", "degree:9", "random_walk:5", "shortest_path:2"]
    kinds = [type(transform).__name__ for transform in make_transforms(names)]
    assert kinds[-1] == "AddVirtualNode", "last, so that it is in no other encoding"
    assert sorted(kinds[:-1]) == ["Degree", "LaplacianEigenvectors", "RandomWalk", "ShortestPaths"]
    assert make_transforms(None) == []


@pytest.mark.parametrize(
    ("encoding", "argument"),
    [(LaplacianEigenvectors, "k"), (RandomWalk, "steps"), (ShortestPaths, "max_distance")],
)
def test_numbers_below_one(encoding, argument):
    with pytest.raises(ValueError, match=f"{argument}: got 0, expected 1 or more"):
        encoding(0)


def test_no_graphs_and_no_encodings():
    assert add_encodings([], ENCODINGS) == []
    (encoded,) = add_encodings([AWKWARD["path"]], None)
    assert encoded.keys() == AWKWARD["path"].keys()


def test_edges_to_missing_nodes():
    with pytest.raises(ValueError, match="edge_index: got node 5, expected nodes from 0 to 2"):
        RandomWalk(3)(graph(3, torch.tensor([[0], [5]])))
    with pytest.raises(ValueError, match="edge_index: got node -1"):
        add_encodings([graph(3, torch.tensor([[-1], [0]]))], ENCODINGS)


def test_heterogeneous_graphs_are_refused():
    with pytest.raises(TypeError, match=r"got HeteroData, .* pass data\.to_homogeneous\(\)"):
        add_encodings([HeteroData()], ["degree:3"])


def test_a_graph_with_adj_t_only_has_edges():
    """`ToSparseTensor` replaces edge_index by adj_t, with a row for each target."""
    edges = torch.tensor([[1, 1, 0], [0, 2, 2]])
    adj_t = torch.sparse_coo_tensor(edges.flip(0), torch.ones(3), (3, 3), check_invariants=True)
    (encoded,) = add_encodings([Data(x=torch.ones(3, 1), adj_t=adj_t)], ["degree:3"])
    assert encoded.in_degree.tolist() == [1, 0, 2]
    assert encoded.out_degree.tolist() == [1, 2, 0]


def test_the_old_name_of_add_encodings_warns():
    with pytest.warns(FutureWarning, match="encode is now called .*add_encodings"):
        assert encodings.encode is add_encodings
