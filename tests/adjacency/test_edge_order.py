"""Counting sorts of edges: they equal torch's sorts, and refuse what these refuse."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graphformer.adjacency import edge_order
from graphformer.adjacency.csr import CSR

SHAPE = (3, 5)
columns = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)), max_size=23)


def as_tensor(edges: list[tuple[int, int]]) -> torch.Tensor:
    return torch.tensor(edges, dtype=torch.int64).reshape(-1, 2).T


def by_torch(edges: torch.Tensor, coalesce: bool) -> CSR:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(edge_order, "is_supported", lambda *_: False)
        csr = CSR.from_edges(edges, SHAPE, coalesce=coalesce)
        _ = csr.by_source
    return csr


@given(columns, st.booleans())
def test_the_compiled_sorts_equal_those_of_torch(
    edges: list[tuple[int, int]], coalesce: bool
) -> None:
    tensor = as_tensor(edges)
    assert edge_order.is_supported(tensor, SHAPE)
    csr, expected = CSR.from_edges(tensor, SHAPE, coalesce=coalesce), by_torch(tensor, coalesce)
    assert csr.is_coalesced == expected.is_coalesced
    pairs = [(getattr(csr, name), getattr(expected, name)) for name in FIELDS]
    for found, wanted in [*pairs, *zip(csr.by_source, expected.by_source, strict=True)]:
        if wanted is None:
            assert found is None
        else:
            assert torch.equal(found, wanted)
            assert found.dtype == wanted.dtype


FIELDS = ("indptr", "indices", "edge_ids", "inverse_index")


@pytest.mark.parametrize("edge", [(-1, 0), (5, 0), (0, -1), (0, 3)])
def test_nodes_out_of_range_are_refused(edge: tuple[int, int]) -> None:
    edges = as_tensor([(0, 0), edge, (1, 1)])
    with pytest.raises(IndexError) as compiled:
        CSR.from_edges(edges, SHAPE)
    with pytest.raises(IndexError) as by_sort:
        by_torch(edges, True)
    assert str(compiled.value) == str(by_sort.value)


def test_nodes_without_edges_and_no_nodes() -> None:
    none = torch.zeros(2, 0, dtype=torch.int64)
    for shape in ((0, 0), (7, 0), (0, 7), (7, 11)):
        csr = CSR.from_edges(none, shape)
        assert csr.indptr.tolist() == [0] * (shape[0] + 1)
        assert csr.by_source.indptr.tolist() == [0] * (shape[1] + 1)


def test_transposed_and_strided_edges() -> None:
    edges = as_tensor([(4, 2), (0, 1), (4, 2), (3, 0), (1, 1)])
    expected = by_torch(edges, True)
    wide = edges.repeat_interleave(2, dim=1)[:, ::2]
    for other in (edges.contiguous(), edges.T.contiguous().T, wide):
        assert torch.equal(CSR.from_edges(other, SHAPE).indices, expected.indices)


def test_without_numba_torch_sorts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge_order, "_compiled", lambda: None)
    csr = CSR.from_edges(as_tensor([(4, 2), (0, 1)]), SHAPE)
    assert csr.indices.tolist() == [0, 4]
    assert csr.by_source.targets.tolist() == [1, 2]


def test_indices_that_do_not_fit_int32_are_sorted_by_torch() -> None:
    assert not edge_order.is_supported(torch.zeros(2, 3, dtype=torch.int64), (2**31, 5))
