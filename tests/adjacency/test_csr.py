"""CSR: slots, edge numbers, duplicates and the by-source order."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from helpers.awkward import AWKWARD, random_edges
from hypothesis import given
from hypothesis import strategies as st

import graphformer as gf


@pytest.mark.parametrize("name", AWKWARD)
def test_slots(name):
    adjacency = AWKWARD[name]()
    csr, m = adjacency.to_csr(), adjacency.shape[0]
    indptr, indices = csr.indptr.tolist(), csr.indices.tolist()
    assert csr.indptr.dtype == csr.indices.dtype == torch.int32
    assert len(indptr) == m + 1
    assert indptr[-1] == csr.num_edges == adjacency.num_edges
    rows = [indices[a:b] for a, b in pairwise(indptr)]
    assert all(row == sorted(set(row)) for row in rows)
    assert csr.target.tolist() == [i for i, row in enumerate(rows) for _ in row]
    numbers = range(csr.num_edges) if csr.edge_ids is None else csr.edge_ids.tolist()
    assert sorted(numbers) == list(range(csr.num_edges))
    assert [csr.slots.tolist()[number] for number in numbers] == list(range(csr.num_edges))
    for slot, number in enumerate(numbers):
        assert adjacency.edge_index[:, number].tolist() == [indices[slot], csr.target[slot]]


@pytest.mark.parametrize("name", AWKWARD)
def test_by_source(name):
    csr = AWKWARD[name]().to_csr()
    indptr, targets, slots = csr.by_source
    assert indptr.dtype == targets.dtype == slots.dtype == csr.indices.dtype
    expected = sorted(
        (source, target, slot)
        for slot, (source, target) in enumerate(
            zip(csr.indices.tolist(), csr.target.tolist(), strict=True)
        )
    )
    assert targets.tolist() == [target for _, target, _ in expected]
    assert slots.tolist() == [slot for _, _, slot in expected]
    counts = [sum(s == j for s, _, _ in expected) for j in range(csr.shape[1])]
    assert indptr.tolist() == [sum(counts[:j]) for j in range(csr.shape[1] + 1)]


columns = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)), max_size=19)


@given(columns)
def test_duplicates_count_where_they_first_appear(edges):
    adjacency = gf.from_edge_index(torch.tensor(edges, dtype=torch.int64).reshape(-1, 2).T, (3, 5))
    unique = list(dict.fromkeys(edges))
    assert list(map(tuple, adjacency.edge_index.T.tolist())) == unique
    if len(unique) < len(edges):
        assert adjacency.inverse_index.tolist() == [unique.index(edge) for edge in edges]
        assert adjacency.T.inverse_index.tolist() == adjacency.inverse_index.tolist()
    else:
        assert adjacency.inverse_index is None


def test_self_loops_after_duplicates_extend_what_was_given():
    adjacency = gf.from_edge_index(torch.tensor([[1, 1, 0], [0, 0, 0]]), 2).with_self_loops()
    assert adjacency.edge_index.tolist() == [[1, 0, 1], [0, 0, 1]]
    assert adjacency.inverse_index.tolist() == [0, 0, 1, 2]


def test_moving_takes_what_is_kept_along():
    csr = gf.from_edge_index(random_edges(7, 7, 19), 7)
    _ = csr.by_source
    moved = csr.to("meta")
    assert moved.device == torch.device("meta")
    assert {x.device.type for x in (*moved.by_source, moved.edge_ids, moved.indptr)} == {"meta"}
    assert moved.shape == csr.shape


def test_nothing_refers_to_itself():
    """So that memory of a batch is freed at once, not when the garbage collector comes round."""
    import gc
    import weakref

    csr = gf.from_edge_index(random_edges(7, 7, 19), 7)
    _ = csr.by_source, csr.buckets, csr.bucket_mask(0), csr.edge_index
    alive = weakref.ref(csr)
    gc.disable()
    try:
        del csr, _
        assert alive() is None
    finally:
        gc.enable()
