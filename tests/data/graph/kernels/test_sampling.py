"""The sampling kernels against brute force: draws, the hash table and induced edges."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.graphs import random_graph
from hypothesis import given
from hypothesis import strategies as st

import graphformer as gf
from graphformer.data.graph.kernels import sampling as kernels

SEED = 5


def draw(degree: int, count: int, *, replace: bool = False, seed: int = 0) -> np.ndarray:
    """Slots drawn for one node, whose row comes after one of 3 slots."""
    indptr = np.array([0, 3, 3 + degree])
    node, root = np.array([1]), np.array([0])
    return kernels.draw_neighbors(indptr, node, root, np.array([count]), replace, seed)


@pytest.mark.parametrize(
    ("degree", "count"),
    [(0, 0), (1, 1), (7, 7), (7, 3), (499, 64), (499, 65), (499, 498)],
    ids=str,
)
def test_draws_without_replacement_are_distinct_slots_of_the_row(degree: int, count: int) -> None:
    slots = draw(degree, count)
    assert len(set(slots.tolist())) == count
    assert all(3 <= slot < 3 + degree for slot in slots.tolist())


def test_draws_with_replacement_repeat() -> None:
    slots = draw(3, 97, replace=True)
    assert set(slots.tolist()) == {3, 4, 5}


@pytest.mark.parametrize("count", [7, 97])  # Floyd's algorithm, and selection
def test_draws_are_uniform(count: int) -> None:
    degree, runs = 499, 2000
    counts = np.zeros(degree)
    for seed in range(runs):
        counts[draw(degree, count, seed=seed) - 3] += 1
    share = count / degree
    deviation = (counts - runs * share) / (runs * share * (1 - share)) ** 0.5
    assert np.abs(deviation).max() < 5
    assert 0.85 < deviation.std() < 1.15


def test_draws_depend_on_node_root_and_seed_only() -> None:
    indptr = np.arange(0, 41 * 14, 41)  # 13 nodes of 41 edges
    nodes, roots, counts = np.array([5, 2, 11]), np.array([0, 0, 1]), np.array([7, 7, 7])
    together = kernels.draw_neighbors(indptr, nodes, roots, counts, False, SEED).reshape(3, 7)
    for i in range(3):
        part = slice(i, i + 1)
        alone = kernels.draw_neighbors(indptr, nodes[part], roots[part], counts[part], False, SEED)
        assert together[i].tolist() == alone.tolist()
    other = kernels.draw_neighbors(indptr, nodes, 1 - roots, counts, False, SEED).reshape(3, 7)
    assert (together != other).any(1).all()


@given(st.lists(st.lists(st.integers(0, 40), max_size=13), max_size=7))
def test_the_hash_table_numbers_keys_in_order_of_appearance(groups: list[list[int]]) -> None:
    keys, values = np.zeros(256, np.int64), np.full(256, -1, np.int64)
    expected: dict[int, int] = {}
    for group in groups:
        before = len(expected)
        for key in group:
            expected.setdefault(key, len(expected))
        local, is_new = kernels.insert_keys(keys, values, np.array(group, np.int64), before)
        assert local.tolist() == [expected[key] for key in group]
        assert int(is_new.sum()) == len(expected) - before
    larger, larger_values = np.zeros(512, np.int64), np.full(512, -1, np.int64)
    kernels.rehash(larger, larger_values, keys[values >= 0], values[values >= 0])
    everything = np.array(list(expected), np.int64)
    local, is_new = kernels.insert_keys(larger, larger_values, everything, len(expected))
    assert local.tolist() == list(expected.values())
    assert not is_new.any()


def test_induced_edges_are_those_of_a_mask() -> None:
    graph = random_graph(53, 211)
    adjacency = gf.from_edge_index(graph.edge_index, 53, coalesce=False)
    nodes = np.random.default_rng(0).permutation(53)[:19]
    local = np.full(53, -1, np.int32)
    local[nodes] = np.arange(19)
    source, target, slots = kernels.induced_edges(
        adjacency.indptr.numpy(), adjacency.indices.numpy(), nodes, local
    )
    edges = adjacency.edge_ids[torch.from_numpy(slots)]
    inside = np.isin(graph.edge_index.numpy(), nodes).all(0)
    assert sorted(edges.tolist()) == np.flatnonzero(inside).tolist()
    assert np.array_equal(nodes[np.stack([source, target])], graph.edge_index[:, edges].numpy())
