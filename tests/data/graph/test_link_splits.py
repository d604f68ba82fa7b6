"""Hidden edges: nothing of them is left, and pairs without an edge have none."""

from __future__ import annotations

from collections.abc import Callable

import networkx as nx
import pytest
import torch
from torch import Tensor

from graphformer.data import PlanetoidLinks
from graphformer.data.graph.link_splits import split_links


def pairs(edges: Tensor) -> set[frozenset[int]]:
    return {frozenset(pair) for pair in edges.T.tolist()}


def test_split_hides_edges_and_draws_pairs_without_one() -> None:
    graph = nx.gnm_random_graph(53, 211, seed=0)
    edges = torch.tensor(list(graph.edges)).T
    loops = torch.arange(3).expand(2, 3)
    edge_index = torch.cat([edges, edges.flip(0), edges[:, :5], loops], dim=1)
    split = split_links(edge_index, 53, val_fraction=0.1, test_fraction=0.2, seed=0)
    train = pairs(split["train_edge_label_index"])
    assert split["train_edge_label_index"].shape == (2, 211 - 21 - 42)
    assert pairs(split["edge_index"]) == train
    assert split["edge_index"].shape[1] == 2 * len(train)
    positive, negative = set(), set()
    for name, count in (("val", 21), ("test", 42)):
        index, label = split[f"{name}_edge_label_index"], split[f"{name}_edge_label"]
        assert label.tolist() == [1] * count + [0] * count
        positive |= pairs(index[:, label == 1])
        negative |= pairs(index[:, label == 0])
    assert len(positive) == len(negative) == 63
    assert train.isdisjoint(positive)
    assert train | positive == pairs(edges)
    assert negative.isdisjoint(pairs(edges))
    assert all(len(pair) == 2 for pair in negative)
    again = split_links(edge_index, 53, val_fraction=0.1, test_fraction=0.2, seed=0)
    other = split_links(edge_index, 53, val_fraction=0.1, test_fraction=0.2, seed=1)
    assert all(torch.equal(split[name], again[name]) for name in split)
    assert not torch.equal(split["edge_index"], other["edge_index"])


def test_graphs_without_enough_edges_are_refused() -> None:
    complete = torch.combinations(torch.arange(7)).T
    with pytest.raises(ValueError, match="21 edges and 0 pairs"):
        split_links(complete, 7, val_fraction=0.1, test_fraction=0.1, seed=0)
    with pytest.raises(ValueError, match="expected both above 0 and a sum below 1"):
        PlanetoidLinks(val_fraction=0.5, test_fraction=0.5)


def test_cora_has_the_published_numbers(
    linked_data: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = str(linked_data("planetoid/Cora/raw"))
    graphs = []
    for seed in ("3", "4"):
        monkeypatch.setenv("PL_GLOBAL_SEED", seed)
        data = PlanetoidLinks(root=root)
        data.setup()
        assert data.graph is not None
        graphs.append(data.graph)
    assert graphs[0].train_edge_label_index.shape == (2, 4488)
    assert graphs[0].test_edge_label.tolist() == [1] * 527 + [0] * 527
    assert not torch.equal(graphs[0].edge_index, graphs[1].edge_index)
    assert "y" not in graphs[0]
