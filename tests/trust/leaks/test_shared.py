"""Planted leaks are found and counted: samples, nodes, edges and degrees."""

from __future__ import annotations

import pytest
import torch
from helpers.trust import Rows, random_split
from torch_geometric.data import Data

from graphformer.data.graph.encodings import (
    Degree,
    Encoding,
    LaplacianEigenvectors,
    RandomWalk,
    ShortestPaths,
)
from graphformer.data.graph.link_splits import split_links
from graphformer.trust.leaks.shared import (
    encodings_differ,
    leaking_edges,
    overlapping_masks,
    sample_hashes,
    shared_pairs,
    shared_samples,
)


def test_equal_samples_are_paired_with_the_first_of_them():
    assert shared_samples(["a", "b", "a"], ["c", "a", "b"]) == [(0, 1), (1, 2)]


def test_labels_do_not_count():
    x, y = random_split(7, 3, 0)
    first, second = sample_hashes(Rows(x, y)), sample_hashes(Rows(x, (y + 1) % 3))
    assert first == second
    assert len(set(first)) == 7


def test_edges_count():
    x, edges = torch.ones(2, 3), torch.tensor([[0], [1]])
    graphs = [Data(x=x, edge_index=edges), Data(x=x, edge_index=edges.flip(0))]

    class Graphs(list):
        def __getitem__(self, index):
            return super().__getitem__(int(index))

    assert len(set(sample_hashes(Graphs(graphs)))) == 2


def test_pairs_are_found_in_both_directions():
    first = torch.tensor([[0, 1, 4], [1, 3, 2]])
    second = torch.tensor([[1, 3, 2, 0], [0, 1, 2, 4]])
    assert shared_pairs(first, second).tolist() == [True, True, False, False]
    assert shared_pairs(first[:, :0], second).tolist() == [False] * 4


def ring_with_hidden_edges(size: int = 41) -> Data:
    nodes = torch.arange(size)
    edges = torch.stack([nodes, (nodes + 1) % size])
    split = split_links(edges, size, val_fraction=0.1, test_fraction=0.2, seed=0)
    return Data(x=torch.ones(size, 1), **split)


def test_a_clean_split_of_edges_has_no_leak_and_planted_ones_are_counted():
    graph = ring_with_hidden_edges()
    assert set(leaking_edges(graph).values()) == {0}
    hidden = graph.test_edge_label_index[:, graph.test_edge_label == 1]
    graph.edge_index = torch.cat([graph.edge_index, hidden[:, :3].flip(0)], dim=1)
    graph.train_edge_label_index = torch.cat([graph.train_edge_label_index, hidden[:, :2]], dim=1)
    counts = leaking_edges(graph)
    assert counts["test edges in edge_index"] == 3
    assert counts["test edges among the training pairs"] == 2
    assert counts["val edges in edge_index"] == 0


@pytest.mark.parametrize(
    ("name", "transform"),
    [
        ("degree", Degree()),
        ("random_walk", RandomWalk(5)),
        ("laplacian", LaplacianEigenvectors(3)),
        ("shortest_path", ShortestPaths(3)),
    ],
)
def test_encodings_from_before_the_split_are_found(name: str, transform: Encoding):
    graph = transform(ring_with_hidden_edges())
    assert encodings_differ(graph) == {name: 0}
    nodes = torch.arange(41)
    whole = torch.stack([nodes, (nodes + 1) % 41])
    whole = torch.cat([whole, whole.flip(0)], dim=1)
    leaking = transform(Data(x=graph.x, edge_index=whole))
    leaking.edge_index = graph.edge_index
    ends = torch.ones(41, dtype=torch.bool)
    ends[graph.edge_index.flatten()] = (
        torch.bincount(graph.edge_index[0], minlength=41)[graph.edge_index.flatten()] < 2
    )
    found = encodings_differ(leaking)[name]
    assert found == int(ends.sum()) if name == "degree" else found >= int(ends.sum()) > 0


def test_the_signs_of_eigenvectors_do_not_matter():
    graph = LaplacianEigenvectors(4)(ring_with_hidden_edges())
    graph.laplacian_pe = graph.laplacian_pe * torch.tensor([1.0, -1.0, -1.0, 1.0])
    assert encodings_differ(graph) == {"laplacian": 0}


def test_nodes_in_two_splits_are_counted():
    masks = {"train_mask": [1, 1, 0], "val_mask": [0, 1, 0], "test_mask": [0, 0, 1]}
    graph = Data(**{name: torch.tensor(mask).bool() for name, mask in masks.items()})
    assert overlapping_masks(graph) == {"train and val": 1, "train and test": 0, "val and test": 0}
