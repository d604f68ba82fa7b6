"""Data sets of one graph: splits, nearest neighbours, checks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch_geometric.data import Data

from graphformer.data import DigitsGraph, HeterophilousGraph, Planetoid
from graphformer.data.graph.node_datasets import FullGraph, nearest_neighbors


def check_masks(graph: Data) -> list[int]:
    masks = torch.stack([graph.train_mask, graph.val_mask, graph.test_mask])
    assert masks.shape == (3, graph.num_nodes)
    assert int(masks.sum(0).max()) == 1
    return masks.sum(1).tolist()


def test_nearest_neighbors_equal_brute_force() -> None:
    x = torch.rand(29, 3)
    source, target = nearest_neighbors(x, 5)
    distance = torch.cdist(x, x).fill_diagonal_(torch.inf)
    expected = distance.topk(5, largest=False).indices.sort(1).values
    assert torch.equal(target, torch.arange(29).repeat_interleave(5))
    assert torch.equal(source.view(29, 5).sort(1).values, expected)
    with pytest.raises(ValueError, match="neighbors: got 29, expected 1 to 28"):
        nearest_neighbors(x, 29)


def test_digits_graph_has_labels_a_class_and_no_leak() -> None:
    data = DigitsGraph(neighbors=5, labels_per_class=7, val_size=101, undirected=False)
    data.setup()
    graph = data.graph
    assert graph is not None
    assert check_masks(graph) == [70, 101, 1626]
    assert graph.y[graph.train_mask].bincount().tolist() == [7] * 10
    assert (data.num_features, data.num_classes) == (64, 10)
    assert graph.edge_index[1].bincount().tolist() == [5] * 1797
    assert not (graph.edge_index[0] == graph.edge_index[1]).any()


def test_digits_graph_noise_leaves_edges_and_masks_as_they_are() -> None:
    clean, noisy, other = DigitsGraph(), DigitsGraph(noise=0.5), DigitsGraph(seed=1)
    for data in (clean, noisy, other):
        data.setup()
    assert torch.equal(clean.graph.edge_index, noisy.graph.edge_index)
    assert torch.equal(clean.graph.train_mask, noisy.graph.train_mask)
    assert not torch.equal(clean.graph.train_mask, other.graph.train_mask)
    assert abs((noisy.graph.x - clean.graph.x).std().item() - 0.5) < 0.01
    assert clean.graph.is_undirected()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels_per_class": 0}, "labels_per_class: got 0"),
        ({"labels_per_class": 174}, "expected 1 to 173"),
        ({"val_size": 1597}, "val_size: got 1597"),
        ({"noise": -1.0}, "noise: got -1.0"),
    ],
)
def test_senseless_digits_graphs_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DigitsGraph(**options).setup()


def test_the_graph_is_one_object_that_moves_in_place() -> None:
    data = DigitsGraph()
    with pytest.raises(RuntimeError, match="setup"):
        data.train_dataloader()
    data.setup()
    (graph,) = data.train_dataloader()
    (again,) = data.val_dataloader()
    assert again is graph
    edge_index = graph.edge_index
    moved = data.transfer_batch_to_device(graph, torch.device("cpu"), 0)
    assert moved is graph
    assert moved.edge_index is edge_index


def test_cora_is_the_public_split(linked_data: Callable[..., Path]) -> None:
    root = str(linked_data("planetoid/Cora/raw"))
    data = Planetoid("cora", root=root)
    data.prepare_data()
    data.setup()
    assert data.graph is not None
    assert check_masks(data.graph) == [140, 500, 1000]
    assert (data.num_features, data.num_classes) == (1433, 7)
    sums = data.graph.x.sum(1)
    torch.testing.assert_close(sums, torch.ones(2708))
    other, again = (Planetoid(split="random", split_seed=seed, root=root) for seed in (3, 5))
    other.setup()
    again.setup()
    assert other.graph is not None
    assert again.graph is not None
    assert check_masks(other.graph) == check_masks(again.graph) == [542, 271, 1895]
    assert not torch.equal(other.graph.train_mask, again.graph.train_mask)


def test_tolokers_split_is_chosen(linked_data: Callable[..., Path]) -> None:
    root = str(linked_data("heterophilous/tolokers/raw"))
    first, second = (HeterophilousGraph("tolokers", split=split, root=root) for split in (0, 7))
    first.setup()
    second.setup()
    assert first.graph is not None
    assert second.graph is not None
    assert check_masks(first.graph) == check_masks(second.graph) == [5879, 2939, 2940]
    assert not torch.equal(first.graph.train_mask, second.graph.train_mask)
    assert first.num_classes == 2


class Labelled(FullGraph):
    def __init__(self, y: torch.Tensor) -> None:
        super().__init__()
        self.y = y

    def read(self) -> Data:
        return Data(x=torch.ones(len(self.y), 3), edge_index=torch.empty(2, 0).long(), y=self.y)


def test_labels_and_features_are_checked() -> None:
    data = Labelled(torch.tensor([2, -100, 0]))
    data.setup()
    assert (data.num_classes, data.graph.lengths) == (3, (3,))
    with pytest.raises(ValueError, match="Labelled: got the label -1, expected classes from 0"):
        Labelled(torch.tensor([0, -1, 1])).setup()
    broken = Labelled(torch.tensor([0.5, torch.nan]))
    with pytest.raises(ValueError, match="Labelled: y has NaN"):
        broken.setup()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Planetoid("Corra"), "'Corra'.*Cora"),
        (lambda: Planetoid(split="fixed"), "'fixed'"),
        (lambda: Planetoid(train_fraction=0.9), "train_fraction and val_fraction: got 0.9 and 0.1"),
        (lambda: HeterophilousGraph(split=10), "split: got 10, expected 0 to 9"),
    ],
)
def test_unknown_names_and_splits_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
