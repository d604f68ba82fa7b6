"""Schedules of rows, the order by source, and their cache; without a GPU."""

from __future__ import annotations

import pytest
import torch
from helpers.awkward import AWKWARD, random_edges

import graphformer as gf
from graphformer.ops.triton import schedule
from graphformer.ops.triton.schedule import (
    cached_schedule,
    cached_source_order,
    make_schedule,
    order_by_source,
)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of 7 edges, long rows of more than 4, and an empty cache."""
    monkeypatch.setattr(schedule, "CHUNK", 7)
    monkeypatch.setattr(schedule, "LONG", 4)
    monkeypatch.setattr(schedule, "_cache", {})


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_every_slot_is_in_one_item(dtype: torch.dtype) -> None:
    degrees = torch.tensor([3, 0, 7, 8, 1, 29, 4, 2, 14])
    indptr = torch.nn.functional.pad(degrees.cumsum(0), (1, 0)).to(dtype)
    made = make_schedule(indptr)
    slots, rows = [], []
    for items in made.launches:
        begins = indptr[items.rows.long()] if items.begins is None else items.begins
        ends = indptr[items.rows.long() + 1]
        ends = ends if items.begins is None else torch.minimum(begins + made.chunk, ends)
        for row, begin, end in zip(items.rows, begins, ends, strict=True):
            assert int(end - begin) <= 7
            assert items.long == (int(degrees[row]) > 4)
            slots += range(int(begin), int(end))
            rows.append(int(row))
    assert sorted(slots) == list(range(int(degrees.sum())))
    assert set(rows) == set(range(9))


def test_hubs_and_the_number_of_their_parts() -> None:
    indptr = torch.tensor([0, 3, 32, 40, 40, 47])
    made = make_schedule(indptr)
    assert made.parts is made.launches[0]
    assert made.hubs.tolist() == [1, 2]
    assert made.starts.tolist() == [0, 5, 7]
    assert made.parts.rows.tolist() == [1] * 5 + [2] * 2
    assert made.parts.begins.tolist() == [3, 10, 17, 24, 31, 32, 39]
    assert [items.rows.tolist() for items in made.whole] == [[0, 3], [4]]


def test_rows_of_a_bin_keep_their_order() -> None:
    degrees = torch.tensor([2, 1, 2, 0, 1, 2])
    made = make_schedule(torch.nn.functional.pad(degrees.cumsum(0), (1, 0)))
    assert made.whole[0].rows.tolist() == [0, 2, 5, 1, 3, 4]
    assert made.parts is None


def test_no_rows_are_no_launches() -> None:
    assert make_schedule(torch.zeros(1, dtype=torch.int64)).launches == []


@pytest.mark.parametrize("name", AWKWARD)
def test_the_order_by_source_is_that_of_the_csr(name: str) -> None:
    csr = AWKWARD[name]().to_csr()
    order = order_by_source(csr.indptr, csr.indices, csr.shape[1])
    assert all(torch.equal(a, b) for a, b in zip(order, csr.by_source, strict=True))


def test_what_is_cached_is_found_by_its_memory_and_dropped_with_it() -> None:
    csr = AWKWARD["duplicates"]().to_csr()
    order = cached_source_order(csr.indptr, csr.indices, csr.shape[1])
    assert cached_source_order(csr.indptr.detach(), csr.indices, csr.shape[1]) is order
    assert cached_schedule(csr.indptr) is cached_schedule(csr.indptr.detach())
    assert len(schedule._cache) == 2
    del csr, order
    cached_schedule(AWKWARD["random"]().to_csr().indptr)
    assert len(schedule._cache) == 1


def test_the_number_of_sources_is_part_of_the_key() -> None:
    edges = random_edges(5, 7, 11)
    narrow = gf.from_edge_index(edges, (5, 7)).to_csr()
    for sources in (7, 13):
        indptr, *_ = cached_source_order(narrow.indptr, narrow.indices, sources)
        assert len(indptr) == sources + 1


def test_other_targets_of_the_same_indices_are_part_of_the_key() -> None:
    indices = torch.tensor([0, 1, 1, 0, 2])
    for indptr in (torch.tensor([0, 2, 5]), torch.tensor([0, 3, 5])):
        _, targets, _ = cached_source_order(indptr, indices, 3)
        assert torch.equal(targets, order_by_source(indptr, indices, 3)[1])


def test_changes_in_place_and_other_strides_are_seen() -> None:
    memory = torch.tensor([0, 1, 3, 9, 9, 11])
    first = cached_schedule(memory[:3])
    assert cached_schedule(memory[::2]) is not first
    memory[1] = 2
    again = cached_schedule(memory[:3])
    assert again is not first
    assert again.whole[0].rows.tolist() == make_schedule(memory[:3]).whole[0].rows.tolist()


def test_inference_tensors_are_cached_too() -> None:
    with torch.inference_mode():
        indptr = torch.tensor([0, 3, 5])
    assert cached_schedule(indptr) is cached_schedule(indptr)
