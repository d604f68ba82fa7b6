"""OGB's folders, as its package writes them, against the same graph of arrays."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.stored_graphs import arrays, store

from graphformer.data import MemoryMappedGraph, MissingDataError, convert_ogb
from graphformer.data.graph.out_of_core.arrays import npz_rows


def write_csv(path: Path, rows: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = "%d" if rows.dtype.kind == "i" else "%.9g"
    with gzip.open(path, "wt") as file:
        np.savetxt(file, rows, fmt=kind, delimiter=",")


def write_ogb(folder: Path, *, binary: bool) -> None:
    """Write a graph as OGB does, with a label that is missing."""
    given = {name: value.numpy() for name, value in arrays().items()}
    labels = given["y"][:, None].astype(np.float32)
    labels[3] = np.nan
    if binary:
        (folder / "raw").mkdir(parents=True)
        np.savez_compressed(
            folder / "raw" / "data.npz",
            edge_index=given["edge_index"],
            node_feat=given["x"],
            edge_feat=given["edge_attr"],
            num_nodes_list=np.array([211]),
            num_edges_list=np.array([1709]),
        )
        np.savez_compressed(folder / "raw" / "node-label.npz", node_label=labels)
    else:
        write_csv(folder / "raw" / "edge.csv.gz", given["edge_index"].T)
        write_csv(folder / "raw" / "node-feat.csv.gz", given["x"])
        write_csv(folder / "raw" / "edge-feat.csv.gz", given["edge_attr"])
        write_csv(folder / "raw" / "node-label.csv.gz", labels)
        write_csv(folder / "raw" / "num-node-list.csv.gz", np.array([211]))
        write_csv(folder / "raw" / "num-edge-list.csv.gz", np.array([1709]))
    for number, name in enumerate(("train", "valid", "test")):
        write_csv(folder / "split" / "time" / f"{name}.csv.gz", np.arange(number, 211, 3))


def assert_same_graph(found: MemoryMappedGraph, expected: MemoryMappedGraph) -> None:
    for name in ("x", "edge_attr"):
        own, other = (g.get_tensor(None, name, index=None) for g in (found, expected))
        torch.testing.assert_close(own, other, msg=name)
    for layout in (0, 1):
        own, other = (g.get_edge_index(None, "csc")[layout] for g in (found, expected))
        assert torch.equal(own, other)


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("undirected", [False, True])
def test_a_folder_of_ogb_is_the_graph_of_its_arrays(
    binary: bool, undirected: bool, tmp_path: Path
) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra parquet)")
    write_ogb(tmp_path / "ogbn_x", binary=binary)
    graph = convert_ogb(tmp_path / "graph", tmp_path / "ogbn_x", undirected=undirected)
    given = arrays()
    expected = store(tmp_path / "expected", given, undirected=undirected)
    assert_same_graph(graph, expected)
    y = graph.get_tensor(None, "y", index=None)
    assert y[3] == -100
    assert torch.equal(y[4:], given["y"][4:])
    assert graph.split_nodes("val").tolist() == list(range(1, 211, 3))
    assert not graph.is_coalesced


def test_reversed_edges_are_added_once_for_loops(tmp_path: Path) -> None:
    given = arrays()
    graph = store(tmp_path / "graph", given, undirected=True)
    loops = int((given["edge_index"][0] == given["edge_index"][1]).sum())
    assert loops > 0
    assert graph.num_edges == 2 * 1709 - loops
    assert store(tmp_path / "once", given, coalesce=True).is_coalesced


@pytest.mark.parametrize("is_by_column", [False, True])
def test_arrays_of_npz_files_are_read_in_chunks(is_by_column: bool, tmp_path: Path) -> None:
    array = np.arange(2 * 1_100_003).reshape(2, -1)
    stored = np.asfortranarray(array) if is_by_column else array
    np.savez(tmp_path / "data.npz", edge_index=stored)
    parts = list(npz_rows(tmp_path / "data.npz", "edge_index", columns=True))
    assert len(parts) == 2
    assert np.array_equal(np.concatenate(parts, axis=1), array)


def test_missing_files_of_ogb_are_named(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra parquet)")
    with pytest.raises(MissingDataError, match=r"there is no file .*num-node-list.csv.gz; downlo"):
        convert_ogb(tmp_path / "graph", tmp_path)
    write_ogb(tmp_path / "ogbn_x", binary=False)
    (tmp_path / "ogbn_x" / "split" / "other").mkdir()
    with pytest.raises(ValueError, match="got 2 folders of splits, expected one"):
        convert_ogb(tmp_path / "graph", tmp_path / "ogbn_x")
