"""Graphs of CSV and Parquet tables, against the same graph of arrays."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.stored_graphs import arrays, store

from graphformer.cli import main
from graphformer.data import convert_arrays, convert_tables
from graphformer.data.graph.out_of_core import tables as tables_module

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


def named_tables(given: dict[str, torch.Tensor]) -> tuple[object, object, list[str]]:
    """Return the tables with nodes that are named by texts, and these names."""
    nodes, edges = tables(given)
    names = [f"knoten {7919 * number % 211:03}é" for number in range(211)]
    names[5], names[6] = "007", "7"
    nodes = nodes.append_column("id", pa.array(names))
    classes = pa.array([("rot", "blau", None)[label] for label in given["y"].tolist()])
    nodes = nodes.set_column(nodes.column_names.index("label"), "label", classes)
    for column in ("source", "target"):
        ends = pa.array([names[node] for node in edges.column(column).to_pylist()])
        edges = edges.set_column(edges.column_names.index(column), column, ends)
    return nodes, edges, names


@pytest.mark.parametrize("write", [write_csv, write_parquet])
def test_nodes_and_classes_with_names(
    write: Callable[[Path, object], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables_module, "_ROWS", 83)  # several chunks
    given = arrays()
    nodes, edges, names = named_tables(given)
    graph = convert_tables(
        tmp_path / "graph",
        nodes=write(tmp_path / "nodes", nodes),
        edges=write(tmp_path / "edges", edges),
        id="id",
        edge_features=["a", "b"],
        split="part",
    )
    expected = store(tmp_path / "expected", given)
    for name in ("x", "edge_attr"):
        found = graph.get_tensor(None, name, index=None)
        torch.testing.assert_close(found, expected.get_tensor(None, name, index=None), msg=name)
    for own, other in zip(
        graph.get_edge_index(None, "csc"), expected.get_edge_index(None, "csc"), strict=True
    ):
        assert torch.equal(own, other)
    assert graph.class_names == ["blau", "rot"]
    assert graph.num_classes == 2
    y = torch.tensor([1, 0, -100])[given["y"]]
    assert torch.equal(graph.get_tensor(None, "y", index=None), y)
    assert graph.node_names is not None
    assert graph.node_names.read(torch.arange(211)) == names
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == [
        "expected",
        "graph",
    ]


def test_predictions_have_the_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    nodes, edges, names = named_tables(arrays())
    files = {"nodes": write_csv(tmp_path / "n", nodes), "edges": write_csv(tmp_path / "e", edges)}
    graph = convert_tables(tmp_path / "graph", **files, id="id")
    model = ["--model=Classification", "--model.network=gat", "--model.adjacency=Edges"]
    data = ["--data=StoredNodes", "--data.path=graph", "--data.fanouts=[3]", "--model.level=node"]
    trainer = ["--trainer.max_epochs=1", "--trainer.accelerator=cpu"]
    assert main(["fit", *model, *data, *trainer]) == 0
    (run,) = (tmp_path / "runs").glob("*/*")
    assert main(["predict", "--ckpt", str(run)]) == 0
    header, *lines = Path("predictions.csv").read_text().splitlines()
    assert header == "node,class,probability_blau,probability_rot"
    test = graph.split_nodes("test").tolist()
    assert [line.split(",")[0] for line in lines] == [names[node] for node in test]
    assert {line.split(",")[1] for line in lines} <= {"blau", "rot"}
    assert main(["predict", "--ckpt", str(run), "--split", "all"]) == 0
    lines = Path("predictions.csv").read_text().splitlines()[1:]
    assert [line.split(",")[0] for line in lines] == names

    other = convert_arrays(
        tmp_path / "other", **{name: value.numpy() for name, value in arrays().items()}
    )
    header = json.loads((other.folder / "graph.json").read_text())
    header.update(class_names=["rot", "blau"], num_classes=2)
    (other.folder / "graph.json").write_text(json.dumps(header))
    assert main(["predict", "--ckpt", str(run), "--data.path=other"]) == 2


def test_wrong_names_are_refused(tmp_path: Path) -> None:
    nodes, edges, _ = named_tables(arrays())
    files = {"nodes": write_csv(tmp_path / "n", nodes), "edges": write_csv(tmp_path / "e", edges)}
    text = files["nodes"].read_text()
    files["nodes"].write_text(text.replace('"knoten 127é"', '"knoten 074é"'))
    with pytest.raises(ValueError, match=r"n.csv: got the name 'knoten \d+é' of a second node i"):
        convert_tables(tmp_path / "graph", **files, id="id")
    files["nodes"].write_text(text.replace('"knoten 127é"', ""))
    with pytest.raises(ValueError, match=r"n.csv: got an empty cell in the column 'id', expected"):
        convert_tables(tmp_path / "graph", **files, id="id")
    files["nodes"].write_text(text.replace('"knoten 127é"', '"knoten"'))
    with pytest.raises(ValueError, match=r"e.csv: in the column '\w+' got the node 'knoten 127é'"):
        convert_tables(tmp_path / "graph", **files, id="id")
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


def test_wrong_tables_are_named(tmp_path: Path) -> None:
    nodes, edges = tables(arrays())
    files = {"nodes": write_csv(tmp_path / "n", nodes), "edges": write_csv(tmp_path / "e", edges)}
    with pytest.raises(ValueError, match=r"e.csv: got no column 'from', expected one of source, t"):
        convert_tables(tmp_path / "graph", **files, source="from")
    with pytest.raises(ValueError, match="got string in the column 'part', expected numbers"):
        convert_tables(tmp_path / "graph", **files, features=["part"])
    with pytest.raises(ValueError, match="got double with 0 empty cells in the column 'a', expect"):
        convert_tables(tmp_path / "graph", **files, source="a")
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
