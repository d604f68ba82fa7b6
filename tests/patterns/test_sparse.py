"""Expander, random, dilated, global and virtual-node patterns."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import Batch, Data

import graphformer as gf
from graphformer import patterns
from graphformer.patterns import Dilated, Edges, Expander, GlobalNodes, Random, VirtualNode, Window

SIZES = (13, 0, 1, 5, 37)


def packed(*lengths: int, **fields) -> Data:
    return Data(x=torch.zeros(sum(lengths), 3), lengths=lengths, num_nodes=sum(lengths), **fields)


def within_samples(adjacency: gf.Adjacency, sizes: tuple[int, ...]) -> bool:
    sample = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    source, target = adjacency.edge_index
    return torch.equal(sample[source], sample[target])


ALL = [Expander(4), Random(3), Dilated(2, 3), GlobalNodes(2), Expander(2) | Random(5, seed=1)]


@pytest.mark.parametrize("pattern", ALL, ids=str)
def test_edges_stay_in_samples_and_are_cached(pattern):
    adjacency = pattern(packed(*SIZES))
    assert adjacency.shape == (56, 56)
    assert within_samples(adjacency, SIZES)
    assert pattern(packed(*SIZES)) is adjacency, "computed once per layout"
    source, target = adjacency.edge_index
    keys = target * 56 + source
    assert torch.equal(keys, keys.unique()), "ordered by target, then source, and distinct"
    assert pattern(packed()).shape == (0, 0)
    assert pattern(packed(0)).shape == (0, 0)


@pytest.mark.parametrize("pattern", [Expander(4), Random(3)], ids=str)
def test_a_sample_has_the_same_edges_in_any_batch(pattern):
    alone = pattern(packed(37)).to_mask()
    assert torch.equal(pattern(packed(*SIZES)).to_mask()[-37:, -37:], alone)
    other = type(pattern)(pattern.degree, seed=7)
    assert not torch.equal(other(packed(37)).to_mask(), alone)


@given(size=st.integers(0, 60), degree=st.sampled_from([2, 4, 6, 8]), seed=st.integers(0, 2**40))
def test_expanders_are_regular(size, degree, seed):
    mask = Expander(degree, seed)(packed(size)).to_mask()
    assert torch.equal(mask, mask.T)
    assert not mask.diagonal().any()
    expected = degree if size > 2 * degree else max(size - 1, 0)
    assert (mask.sum(1) == expected).all()


def test_expanders_expand():
    """The second eigenvalue is near the best, 2 sqrt(d - 1) (Alon and Boppana, 1986)."""
    for seed in range(5):
        mask = Expander(6, seed)(packed(211)).to_mask()
        second = np.linalg.eigvalsh(mask.double().numpy())[-2]
        assert second < 2 * 5**0.5 * 1.1


@given(size=st.integers(0, 40), degree=st.integers(0, 9), seed=st.integers(0, 2**40))
def test_random_edges_have_the_degree(size, degree, seed):
    mask = Random(degree, seed)(packed(size)).to_mask()
    assert (mask.sum(1) == min(degree, size)).all()


def test_random_edges_are_uniform():
    hits = sum(Random(3, seed)(packed(7)).to_mask().double() for seed in range(400)) / 400
    assert (hits - 3 / 7).abs().max() < 0.12


@pytest.mark.parametrize(("radius", "dilation"), [(0, 2), (2, 1), (2, 3), (50, 4), (3, 50)])
def test_dilated(radius, dilation):
    adjacency = Dilated(radius, dilation)(packed(17, 5))
    distance = torch.arange(17) - torch.arange(17).unsqueeze(1)
    expected = (distance % dilation == 0) & (distance.abs() <= radius * dilation)
    assert torch.equal(adjacency.to_mask()[:17, :17], expected)
    if dilation == 1:
        assert torch.equal(adjacency.to_mask(), gf.window([17, 5], radius).to_mask())


def test_global_nodes():
    mask = GlobalNodes(2)(packed(5, 1, 0, 3)).to_mask()
    expected = torch.zeros(9, 9, dtype=torch.bool)
    for start, end in [(0, 5), (5, 6), (6, 9)]:
        centres = slice(start, min(start + 2, end))
        expected[start:end, centres] = expected[centres, start:end] = True
    assert torch.equal(mask, expected)


def test_virtual_nodes_may_be_anywhere():
    mask = torch.tensor([0, 0, 1, 0, 0, 0, 0, 1], dtype=torch.bool)
    adjacency = VirtualNode()(packed(3, 2, 3, virtual_mask=mask))
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[2, :3] = expected[:3, 2] = expected[7, 5:] = expected[5:, 7] = True
    assert torch.equal(adjacency.to_mask(), expected)
    none = VirtualNode()(packed(3, virtual_mask=torch.zeros(3, dtype=torch.bool)))
    assert none.num_edges == 0
    with pytest.raises(ValueError, match=r"batch\.virtual_mask: got None, .* VirtualNode"):
        VirtualNode()(packed(3))


def test_part_mask_of_a_union_of_graph_patterns():
    edges = torch.tensor([[0, 1, 2, 12], [1, 2, 0, 0]])
    batch = Batch.from_data_list([Data(edge_index=edges, num_nodes=n) for n in (13, 17)])
    pattern = Edges() | Expander(4) | GlobalNodes()
    assert isinstance(pattern, patterns.Union)
    assert len(pattern.patterns) == 3, "a | b | c is one union of three"
    adjacency = pattern(batch)
    assert adjacency.part_mask.shape == (adjacency.num_edges, 3)
    counts = [part(batch).num_edges for part in pattern.patterns]
    assert adjacency.part_mask.sum(0).tolist() == counts
    assert adjacency is pattern(batch)


def test_a_long_input_costs_its_edges():
    nodes = 30_011
    adjacency = (Window(2) | Expander(4) | Random(3) | GlobalNodes() | Dilated(2, 7))(packed(nodes))
    assert adjacency.num_edges < 20 * nodes
    assert adjacency.part_mask.shape == (adjacency.num_edges, 5)


@pytest.mark.parametrize("pattern", [*ALL, VirtualNode()], ids=str)
def test_patterns_are_values(pattern):
    assert copy.deepcopy(pattern) == pattern
    assert pickle.loads(pickle.dumps(pattern)) == pattern
    assert len({pattern, copy.deepcopy(pattern)}) == 1


def test_errors():
    for degree in (0, 3, -2):
        with pytest.raises(ValueError, match=f"degree: got {degree}, expected an even number"):
            Expander(degree)
    with pytest.raises(ValueError, match="degree: got -1, expected at least 0"):
        Random(-1)
    with pytest.raises(ValueError, match="dilation: got 0, expected at least 1"):
        Dilated(1, 0)
    with pytest.raises(ValueError, match="count: got 0, expected at least 1"):
        GlobalNodes(0)
