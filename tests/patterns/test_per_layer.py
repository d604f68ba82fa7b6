"""Patterns per block and per head."""

from __future__ import annotations

import pytest
import torch
from torch_geometric.data import Data

import graphformer as gf
from graphformer.adjacency import HeadEdges
from graphformer.patterns import (
    Causal,
    Complete,
    Edges,
    GlobalNodes,
    Offsets,
    PerHead,
    PerLayer,
    Random,
    Union,
    Window,
)
from graphformer.patterns.fields import Layout


def packed(*lengths: int) -> Layout:
    return Layout(lengths)


def test_one_adjacency_per_block():
    blocks = PerLayer((Causal(), Window(1)))(packed(5, 3))
    assert blocks == [gf.causal((5, 3)), gf.window((5, 3), 1)]
    assert PerLayer([Causal()]) == PerLayer((Causal(),)), "a list from a YAML file"
    assert PerLayer(())(packed(3)) == []


def test_one_adjacency_with_a_mask_per_head():
    edges = PerHead((Causal(), Window(1)))(packed(5, 3))
    assert isinstance(edges, HeadEdges)
    source, target = edges.edge_index
    for head, own in enumerate((gf.causal((5, 3)), gf.window((5, 3), 1))):
        assert torch.equal(edges.heads[:, head], own.to_mask()[target, source])
    with pytest.raises(ValueError, match="patterns: got none, expected one per head"):
        PerHead([])


def test_patterns_that_read_more_than_the_layout_are_not_cached_as_a_whole():
    pattern = PerLayer((Edges(), Causal()))
    batches = [
        Data(x=torch.ones(3, 1), lengths=(3,), edge_index=torch.tensor([[0], [target]]))
        for target in (1, 2)
    ]
    first, second = (pattern(batch) for batch in batches)
    assert first[0].edge_index.tolist() == [[0], [1]]
    assert second[0].edge_index.tolist() == [[0], [2]]
    assert first[1] is second[1]


def test_groups_combine_pattern_by_pattern():
    layers = PerLayer((Causal(), PerHead((Window(1), Window(2)))))
    more = GlobalNodes()
    assert layers | more == PerLayer(
        (Causal() | more, PerHead((Window(1) | more, Window(2) | more)))
    )
    assert more & layers == PerLayer(
        (more & Causal(), PerHead((more & Window(1), more & Window(2))))
    )
    heads = PerHead((Complete(), Random()))
    assert heads | PerLayer((more, Causal())) == PerLayer((heads | more, heads | Causal()))
    with pytest.raises(ValueError, match="got groups of 2 and 1"):
        layers | PerLayer((more,))
    with pytest.raises(ValueError, match="got a PerLayer, expected patterns that make one"):
        Union((more, layers))


def test_cached_as_a_whole_per_layout():
    layers = PerLayer(tuple(PerHead((Window(r), Offsets((r,)))) for r in range(23)))
    first, second = layers(packed(7, 3)), layers(packed(7, 3))
    assert all(one is other for one, other in zip(first, second, strict=True))
    assert first[5].heads[:, 0].sum() == gf.window((7, 3), 5).num_edges


def test_parallel_edges_are_one_edge_per_head():
    edges = torch.tensor([[0, 0, 2], [1, 1, 1]])
    batch = Data(edge_index=edges, edge_type=torch.tensor([3, 7, 5]), num_nodes=3)
    assert PerHead((Edges(), Edges()))(batch).num_edges == 2
