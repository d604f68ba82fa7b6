"""Data sets of OGB by name, read by the package ogb from a local root of a few nodes."""

from __future__ import annotations

import gzip
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from graphformer.data import MissingDataError, OGBGraphs, OGBLinks, OGBNodes
from graphformer.data.graph.own.ogb_sets import one_hot


def write_rows(file: Path, rows: Sequence[Sequence[object]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    text = "\n".join(",".join(map(str, row)) for row in rows) + "\n"
    file.write_bytes(gzip.compress(text.encode()))


def write_splits(folder: Path, **splits: Sequence[int]) -> None:
    for name, indices in splits.items():
        write_rows(folder / f"{name}.csv.gz", [[i] for i in indices])


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    pytest.importorskip("ogb")

    def no_network(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    return str(tmp_path)


def write_molecules(root: str) -> None:
    folder = Path(root) / "ogb" / "ogbg_molhiv"
    raw = folder / "raw"
    edges = [[0, 1], [1, 2], [0, 1], [0, 1], [1, 2]]  # of graphs with 3, 2, 3 nodes
    atoms = [[i, 0, i % 12, 5, 0, 0, 2, 0, i % 2] for i in range(8)]
    write_rows(raw / "edge.csv.gz", edges)
    write_rows(raw / "num-node-list.csv.gz", [[3], [2], [3]])
    write_rows(raw / "num-edge-list.csv.gz", [[2], [1], [2]])
    write_rows(raw / "node-feat.csv.gz", atoms)
    write_rows(raw / "edge-feat.csv.gz", [[i % 5, i % 6, 1] for i in range(5)])
    write_rows(raw / "graph-label.csv.gz", [[0], [1], [0]])
    write_splits(folder / "split" / "scaffold", train=[2], valid=[0], test=[1])
    (folder / "RELEASE_v1.txt").touch()


def test_molecules_have_splits_and_one_hot_columns(root: str) -> None:
    write_molecules(root)
    for _ in range(2):  # the second time from ogb's processed file
        data = OGBGraphs("ogbg-molhiv", root=root)
        data.setup()
        assert (data.num_features, data.num_edge_features, data.num_classes) == (174, 13, 2)
        (batch,) = data.batches("test")
        assert batch.y.tolist() == [1]
        assert batch.x[:, :119].argmax(1).tolist() == [3, 4]
        assert batch.x.sum(1).tolist() == [9, 9]
        # Directions alternate: ogb adds each bond's other one behind it.
        assert batch.edge_index.tolist() == [[0, 1], [1, 0]]
        assert batch.edge_attr[:, :5].argmax(1).tolist() == [2, 2]
        assert [batch.num_nodes for batch in data.batches("val")] == [3]


def test_one_hot_columns_times_a_matrix_are_the_sum_of_embeddings() -> None:
    sizes, values = [3, 5], torch.tensor([[2, 0], [0, 4], [1, 3]])
    tables = [torch.randn(size, 7) for size in sizes]
    expected = sum(table[column] for table, column in zip(tables, values.unbind(1), strict=True))
    torch.testing.assert_close(one_hot(values, sizes) @ torch.cat(tables), expected)


def test_nodes_have_masks(root: str) -> None:
    folder = Path(root) / "ogb" / "ogbn_arxiv"
    raw = folder / "raw"
    write_rows(raw / "edge.csv.gz", [[0, 1], [3, 1], [1, 3]])
    write_rows(raw / "num-node-list.csv.gz", [[5]])
    write_rows(raw / "num-edge-list.csv.gz", [[3]])
    write_rows(raw / "node-feat.csv.gz", [[i, 0.5] for i in range(5)])
    write_rows(raw / "node-label.csv.gz", [[i % 3] for i in range(5)])
    write_rows(raw / "node_year.csv.gz", [[2000 + i] for i in range(5)])
    write_splits(folder / "split" / "time", train=[0, 4], valid=[2], test=[1, 3])
    (folder / "RELEASE_v1.txt").touch()
    data = OGBNodes("ogbn-arxiv", root=root)
    data.setup()
    assert data.graph is not None
    assert (data.num_features, data.num_classes) == (2, 3)
    assert data.graph.train_mask.tolist() == [True, False, False, False, True]
    assert data.graph.test_mask.nonzero()[:, 0].tolist() == [1, 3]
    assert data.graph.y.tolist() == [0, 1, 2, 0, 1]
    assert data.graph.edge_index.tolist() == [[0, 1, 1, 3], [1, 0, 3, 1]]
    directed = OGBNodes("ogbn-arxiv", undirected=False, root=root).read()
    assert directed.edge_index.tolist() == [[0, 3, 1], [1, 1, 3]]


def test_links_have_the_pairs_of_ogb(root: str) -> None:
    folder = Path(root) / "ogb" / "ogbl_ddi"
    raw, splits = folder / "raw", folder / "split" / "target"
    write_rows(raw / "edge.csv.gz", [[0, 1], [2, 3]])
    write_rows(raw / "num-node-list.csv.gz", [[7]])
    write_rows(raw / "num-edge-list.csv.gz", [[2]])
    splits.mkdir(parents=True)
    torch.save({"edge": np.array([[0, 1], [2, 3]])}, splits / "train.pt")
    for split, edge in (("valid", 4), ("test", 5)):
        pairs = {"edge": np.array([[edge, 6]]), "edge_neg": np.array([[0, edge], [1, edge]])}
        torch.save(pairs, splits / f"{split}.pt")
    (folder / "RELEASE_v1.txt").touch()
    data = OGBLinks("ogbl-ddi", root=root)
    data.setup()
    graph = data.graph
    assert graph is not None
    assert graph.x.tolist() == [[1.0]] * 7
    assert sorted(zip(*graph.edge_index.tolist(), strict=True)) == [(0, 1), (1, 0), (2, 3), (3, 2)]
    assert graph.train_edge_label_index.tolist() == [[0, 2], [1, 3]]
    assert graph.val_edge_label_index.tolist() == [[4, 0, 1], [6, 4, 4]]
    assert graph.test_edge_label.tolist() == [1, 0, 0]


def test_types_of_nodes_become_one_graph(root: str) -> None:
    folder = Path(root) / "ogb" / "ogbn_mag"
    raw = folder / "raw"
    write_rows(raw / "num-node-dict.csv.gz", [["author", "paper"], [2, 3]])
    write_rows(raw / "triplet-type-list.csv.gz", [["author", "writes", "paper"]])
    relation = raw / "relations" / "author___writes___paper"
    write_rows(relation / "edge.csv.gz", [[0, 1], [1, 2]])
    write_rows(relation / "num-edge-list.csv.gz", [[2]])
    write_rows(relation / "edge_reltype.csv.gz", [[0], [0]])
    write_rows(raw / "nodetype-has-feat.csv.gz", [["author", "paper"], [False, True]])
    write_rows(raw / "nodetype-has-label.csv.gz", [["author", "paper"], [False, True]])
    paper = raw / "node-feat" / "paper"
    write_rows(paper / "node-feat.csv.gz", [[0.5, 1], [1, 2], [2, 3]])
    write_rows(paper / "node_year.csv.gz", [[2001], [2002], [2003]])
    write_rows(raw / "node-label" / "paper" / "node-label.csv.gz", [[0], [1], [1]])
    split = folder / "split" / "time"
    write_rows(split / "nodetype-has-split.csv.gz", [["author", "paper"], [False, True]])
    write_splits(split / "paper", train=[0], valid=[1], test=[2])
    (folder / "RELEASE_v2.txt").touch()
    with pytest.raises(ValueError, match="undirected: got True for ogbn-mag, which has types"):
        OGBNodes("ogbn-mag", root=root).setup()
    graph = OGBNodes("ogbn-mag", undirected=False, root=root).read()
    assert graph.node_type.tolist() == [0, 0, 1, 1, 1]
    assert graph.edge_index.tolist() == [[0, 1], [3, 4]]
    assert graph.y.tolist() == [-100, -100, 0, 1, 1]
    assert graph.val_mask.tolist() == [False, False, False, True, False]
    assert graph.x[2:, 1:].tolist() == [[0.5, 1], [1, 2], [2, 3]]


def test_what_cannot_be_read_is_one_sentence(root: str) -> None:
    with pytest.raises(MissingDataError, match=r"ogbn-arxiv: ogb can neither .*no network"):
        OGBNodes("ogbn-arxiv", root=root).setup()
    with pytest.raises(ValueError, match=r"name: got 'ogbg-mice', expected .* Available data"):
        OGBGraphs("ogbg-mice", root=root).setup()


def test_wrong_names_and_a_missing_package_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="name: got 'ogbn-arxiv', .* begins with ogbg-, but for"):
        OGBGraphs("ogbn-arxiv")
    with pytest.raises(ValueError, match="ogbg-code2, whose labels are texts"):
        OGBGraphs("ogbg-code2")
    with pytest.raises(ValueError, match="fold: got 3 for ogbg-molhiv, which has splits"):
        OGBGraphs("ogbg-molhiv", fold=3)
    for name in [name for name in sys.modules if name.partition(".")[0] == "ogb"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ogb", None)  # type: ignore[arg-type]
    with pytest.raises(ModuleNotFoundError, match=r"need ogb.*; pip install .graphformer\[ogb\]"):
        OGBLinks("ogbl-ddi").setup()
