"""Graphs of CSV and Parquet tables, against the same graph of arrays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.stored_graphs import arrays, store

from graphformer.data import convert_tables

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra parquet)")
SPLITS = np.array(["train", "val", "test"])


def write_csv(path: Path, table: object) -> Path:
    from pyarrow import csv

    csv.write_csv(table, path.with_suffix(".csv"))
    return path.with_suffix(".csv")


def write_parquet(path: Path, table: object) -> Path:
    from pyarrow import parquet

    parquet.write_table(table, path.with_suffix(".parquet"), row_group_size=101)
    return path.with_suffix(".parquet")


def tables(given: dict[str, torch.Tensor]) -> tuple[object, object]:
    x, y, ends, weights = (given[name].numpy() for name in ("x", "y", "edge_index", "edge_attr"))
    columns = {f"f{number}": x[:, number] for number in range(5)}
    nodes = pa.table({**columns, "label": y, "part": SPLITS[np.arange(len(y)) % 3]})
    edges = pa.table({"source": ends[0], "target": ends[1], "a": weights[:, 0], "b": weights[:, 1]})
    return nodes, edges


@pytest.mark.parametrize("write", [write_csv, write_parquet])
def test_tables_are_the_graph_of_their_arrays(
    write: Callable[[Path, object], Path], tmp_path: Path
) -> None:
    given = arrays()
    nodes, edges = tables(given)
    graph = convert_tables(
        tmp_path / "graph",
        nodes=write(tmp_path / "nodes", nodes),
        edges=write(tmp_path / "edges", edges),
        edge_features=["a", "b"],
        split="part",
    )
    expected = store(tmp_path / "expected", given)
    for name in ("x", "y", "edge_attr"):
        found = graph.get_tensor(None, name, index=None)
        torch.testing.assert_close(found, expected.get_tensor(None, name, index=None), msg=name)
    for own, other in zip(
        graph.get_edge_index(None, "csc"), expected.get_edge_index(None, "csc"), strict=True
    ):
        assert torch.equal(own, other)
    assert graph.split_nodes("val").tolist() == list(range(1, 211, 3))


def test_wrong_tables_are_named(tmp_path: Path) -> None:
    nodes, edges = tables(arrays())
    files = {"nodes": write_csv(tmp_path / "n", nodes), "edges": write_csv(tmp_path / "e", edges)}
    with pytest.raises(ValueError, match=r"e.csv: got no column 'from', expected one of source, t"):
        convert_tables(tmp_path / "graph", **files, source="from")
    with pytest.raises(ValueError, match="got string in the column 'part', expected numbers"):
        convert_tables(tmp_path / "graph", **files, features=["part"])
    with pytest.raises(ValueError, match="got double with 0 empty cells in the column 'a', expect"):
        convert_tables(tmp_path / "graph", **files, source="a")
    with pytest.raises(ValueError, match="got string with 0 empty cells in the column 'part'"):
        convert_tables(tmp_path / "graph", **files, label="part")
    files["edges"].write_text("source,target\n1,2\n3\n")
    with pytest.raises(ValueError, match=r"e.csv: got a table that cannot be read \(CSV parse err"):
        convert_tables(tmp_path / "graph", **files)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes, edges = tables(arrays())
    files = {"nodes": write_csv(tmp_path / "n", nodes), "edges": write_csv(tmp_path / "e", edges)}
    monkeypatch.setattr("graphformer.data.graph.out_of_core.tables.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r'n.csv: .* pip install "graphformer\[parquet\]'):
        convert_tables(tmp_path / "graph", **files)
