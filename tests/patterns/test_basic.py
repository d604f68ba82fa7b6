"""Patterns defined by the layout of a batch, and the edges in the data."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch_geometric.data import Batch, Data

import graphformer as gf
from graphformer.adjacency.from_tensor import _CACHE
from graphformer.patterns import Causal, Complete, Edges, Grid, SelfLoops, Window

EDGES = torch.tensor([[0, 1, 2, 2], [1, 2, 0, 2]])


def packed(*lengths: int, **fields) -> Data:
    return Data(x=torch.zeros(sum(lengths), 3), lengths=lengths, num_nodes=sum(lengths), **fields)


def graphs() -> Batch:
    """Graphs of 3 and 5 nodes."""
    return Batch.from_data_list(
        [Data(edge_index=EDGES, num_nodes=3), Data(edge_index=EDGES, num_nodes=5)]
    )


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (Complete(), gf.complete([3, 5])),
        (Causal(), gf.causal([3, 5])),
        (Window(2), gf.window([3, 5], 2)),
        (Window(radius=2, causal=True), gf.window([3, 5], 2, causal=True)),
        (SelfLoops(), gf.window([3, 5], 0)),
    ],
)
def test_rules_over_lengths_ptr_or_one_sample(pattern, expected):
    assert pattern(packed(3, 5)) == expected
    assert pattern(packed(3, 5)) is pattern(packed(3, 5)), "computed once per layout"
    assert pattern(graphs()) == expected
    one = pattern(Data(x=torch.zeros(7, 1)))
    assert one == expected.with_blocks(((7, 7),))
    assert pattern(packed(0, 3)).shape == (3, 3)


def test_grid_reads_shapes():
    batch = packed(6, 35, shapes=[(2, 3), [5, 7]])
    assert Grid(radius=2)(batch) == gf.grid([(2, 3), (5, 7)], radius=2)
    with pytest.raises(ValueError, match=r"batch\.shapes: got None, .* Grid"):
        Grid()(packed(6))


def test_grid_of_videos_by_radius_of_each_axis():
    batch = packed(30, 12, shapes=[(2, 3, 5), (3, 2, 2)])
    assert torch.equal(Grid()(batch).edge_index, gf.grid([(2, 3, 5), (3, 2, 2)]).edge_index)
    expected = gf.grid(batch.shapes, (1, 0, 2), causal=True).edge_index
    assert torch.equal(Grid([1, 0, 2], causal=True)(batch).edge_index, expected)
    assert Grid()(batch) is Grid()(batch), "computed once per layout"
    for radius in ("a", -1, (1, -2)):
        with pytest.raises(ValueError, match="radius: got"):
            Grid(radius)


def test_edges():
    adjacency = Edges()(graphs())
    assert torch.equal(adjacency.edge_index, graphs().edge_index)
    loops = Edges(self_loops=True)(graphs()).to_mask()
    assert torch.equal(loops, adjacency.to_mask() | torch.eye(8, dtype=torch.bool))
    both = Edges(undirected=True)(graphs()).to_mask()
    assert torch.equal(both, adjacency.to_mask() | adjacency.to_mask().T)
    with pytest.raises(ValueError, match=r"batch\.edge_index: got None, .* Edges"):
        Edges()(packed(6))


def test_edges_are_cached_for_a_tensor_until_it_is_modified():
    batch = Data(edge_index=EDGES.clone(), num_nodes=3)
    first = Edges()(batch)
    assert Edges()(batch) is first
    assert Edges(self_loops=True)(batch) is not first
    assert Edges()(Data(edge_index=batch.edge_index, num_nodes=4)).shape == (4, 4)
    batch.edge_index[0, 0] = 2
    second = Edges()(batch)
    assert second is not first
    assert torch.equal(second.edge_index, batch.edge_index)
    assert len(_CACHE[batch.edge_index][1]) == 1, "outdated adjacencies are dropped"


@pytest.mark.parametrize("pattern", [Edges(), Edges(undirected=True), Edges() | Window(1)])
def test_adjacencies_of_a_validation_epoch_can_be_trained_with(pattern):
    batch = Data(edge_index=EDGES.clone(), num_nodes=3)
    x = torch.randn(3, 2, 5, requires_grad=True)
    with torch.inference_mode():
        gf.attention(x, x, x, pattern(batch), backend="scatter")
        collated = pattern(graphs())  # whose edge_index was made in inference mode
    assert collated.shape == (8, 8)
    gf.attention(x, x, x, pattern(batch), backend="scatter").sum().backward()


@pytest.mark.parametrize("pattern", [Window(3), Edges(True), Grid() | SelfLoops()])
def test_patterns_are_values(pattern):
    assert copy.deepcopy(pattern) == pattern
    assert pickle.loads(pickle.dumps(pattern)) == pattern
    assert len({pattern, copy.deepcopy(pattern)}) == 1


def test_edges_keeps_parallel_edges_whose_values_differ():
    edges = torch.tensor([[0, 0, 2], [1, 1, 1]])
    same, differ = torch.tensor([3, 3, 5]), torch.tensor([3, 7, 5])
    for pattern in (Edges(), Edges(self_loops=True)):
        loops = 3 if pattern.self_loops else 0
        for name in ("edge_attr", "edge_type", "edge_weight"):
            assert pattern(Data(edge_index=edges, num_nodes=3)).num_edges == 2 + loops
            equal = Data(edge_index=edges, num_nodes=3, **{name: same})
            assert pattern(equal).num_edges == 2 + loops
            parallel = pattern(Data(edge_index=edges, num_nodes=3, **{name: differ}))
            assert parallel.num_edges == 3 + loops
            assert torch.equal(parallel.edge_index[:, :3], edges)
