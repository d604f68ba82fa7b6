"""The external sort of edges against a sort in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from graphformer.data.graph.out_of_core import edge_sort
from graphformer.data.graph.out_of_core.edge_sort import EdgeSorter


@pytest.mark.parametrize("coalesce", [False, True])
@pytest.mark.parametrize("num_nodes", [1, 7, 613])
def test_edges_are_those_of_a_sort_in_memory(
    num_nodes: int, coalesce: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge_sort, "_CHUNK", 101)
    monkeypatch.setattr(edge_sort, "_PART", 13)
    generator = np.random.default_rng(0)
    edges = generator.integers(num_nodes, size=(2, 1009))
    edges[1, :311] = num_nodes // 2  # one target with more edges than a part
    rows = np.arange(1009 * 3, dtype=np.float32).reshape(1009, 3)
    sorter = EdgeSorter(
        tmp_path / "sort", num_nodes, row_shape=(3,), dtype=rows.dtype, coalesce=coalesce
    )
    with sorter:
        for start in (0, 499):  # two additions
            part = slice(start, 499 if start == 0 else None)
            sorter.add(edges[:, part], rows[part])
        parts = list(sorter.parts())
    order = np.lexsort(edges)  # by target, then source; stable
    expected = edges[:, order]
    if coalesce:
        _, first = np.unique(expected[1] * num_nodes + expected[0], return_index=True)
        expected, order = expected[:, first], order[first]
    degree = np.concatenate([part.degree for part in parts])
    assert np.array_equal(np.repeat(np.arange(num_nodes), degree), expected[1])
    assert np.array_equal(np.concatenate([part.sources for part in parts]), expected[0])
    attributes = [part.attributes for part in parts if part.attributes is not None]
    assert np.array_equal(np.concatenate(attributes), rows[order])
    assert sorter.has_duplicates
    assert not (tmp_path / "sort").exists()


def test_wrong_edges_are_refused(tmp_path: Path) -> None:
    with EdgeSorter(tmp_path / "sort", 5) as sorter:
        with pytest.raises(IndexError, match="edges: got the target 5, expected nodes from 0 to 4"):
            sorter.add(np.array([[0], [5]]))
        with pytest.raises(IndexError, match="edges: got the source -1"):
            sorter.add(np.array([[-1], [2]]))
        with pytest.raises(ValueError, match=r"edges: got int64 \(3, 2\), expected integers"):
            sorter.add(np.ones((3, 2), np.int64))
        with pytest.raises(ValueError, match="edge_attr: got 1 rows for 1 edges, expected"):
            sorter.add(np.array([[0], [1]]), np.ones((1, 2)))
