"""Own graphs: tables and files, by Python and by command."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import networkx
import numpy as np
import pytest
import torch
from torch_geometric.data import Data

import graphformer as gf
from graphformer.cli import main
from graphformer.data import GraphFile, LinkFile, NodeFile, NodeTables, PyGGraphs

NODES = "id,age,colour,label\n" + "".join(
    f"n{i},{i / 10},{'red' if i % 3 else 'blue'},{'cat' if i % 2 else 'dog'}\n" for i in range(23)
)
EDGES = "source,target\n" + "".join(f"n{i},n{(i + 2) % 23}\n" for i in range(23))


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nodes.csv").write_text(NODES)
    (tmp_path / "edges.csv").write_text(EDGES)
    return tmp_path


def ready(module: NodeTables | NodeFile) -> Data:
    module.setup()
    assert module.graph is not None
    masks = [module.graph[f"{split}_mask"] for split in ("train", "val", "test")]
    assert (sum(mask.long() for mask in masks) == 1).all()
    return module.graph


def test_tables_become_a_graph(tables: Path) -> None:
    module = NodeTables(categories=["colour"])
    graph = ready(module)
    assert module.class_names == ["cat", "dog"]
    assert graph.y.tolist() == [1 - i % 2 for i in range(23)]
    assert graph.x[4].tolist() == pytest.approx([0.4, 0.0, 1.0])
    assert graph.edge_index.shape == (2, 46)
    assert {(0, 2), (2, 0)} <= set(map(tuple, graph.edge_index.T.tolist()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("n5,0.5", "n5,old"),
            "row 6 of the column 'age', expected a number",
        ),
        (("n5,0.5", "n5,"), "got '' in row 6 of the column 'age', expected a number"),
        (("n5,0.5", "n5,NA"), "got 'NA' in row 6 of the column 'age', expected a number"),
        (("n5,0.5", "n5,nan"), "got 'nan' in row 6 of the column 'age', expected a finite number"),
        (("n5,0.5", "n5,inf"), "got 'inf' in row 6 of the column 'age', expected a finite number"),
        (("n5,0.5", "n4,0.5"), "got a repeated id, 'n4', expected another for each node"),
    ],
)
@pytest.mark.parametrize("features", [["age"], None])
def test_wrong_tables_are_named(
    tables: Path, features: list[str] | None, change: tuple[str, str], message: str
) -> None:
    if features is None and "old" in change[1]:
        pytest.skip("a column with a word is no column of numbers")
    (tables / "nodes.csv").write_text(NODES.replace(*change))
    with pytest.raises(ValueError, match=message):
        NodeTables(features=features).setup()


def test_columns_that_are_not_used_are_reported(
    tables: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tables / "nodes.csv").write_text(NODES.replace("n5,0.5", "n5,old"))
    assert ready(NodeTables()).x.shape == (23, 1)  # ones
    assert (
        "nodes.csv: no features, because they are no numbers: age, colour"
        in capsys.readouterr().err
    )
    assert ready(NodeTables(categories=["age", "colour"])).x.shape == (23, 23 + 2)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_tables_in_another_encoding(tables: Path, encoding: str) -> None:
    (tables / "nodes.csv").write_bytes(NODES.replace("cat", "Kätzchen").encode(encoding))
    (tables / "edges.csv").write_bytes(EDGES.encode(encoding))
    with pytest.raises(ValueError, match="not utf-8 text; convert the file to UTF-8, or set `enc"):
        NodeTables().setup()
    module = NodeTables(encoding=encoding)
    ready(module)
    assert module.class_names == ["Kätzchen", "dog"]


def test_tables_with_semicolons(tables: Path) -> None:
    expected = ready(NodeTables(categories=["colour"]))
    for name in ("nodes.csv", "edges.csv"):
        (tables / name).write_text((tables / name).read_text().replace(",", ";"))
    found = ready(NodeTables(categories=["colour"]))
    assert torch.equal(found.x, expected.x)
    assert torch.equal(found.edge_index, expected.edge_index)


def test_an_edge_of_no_node_is_named(tables: Path) -> None:
    (tables / "edges.csv").write_text(EDGES + "n1,elephant\n")
    with pytest.raises(ValueError, match="got the node 'elephant' in the column 'target'"):
        NodeTables().setup()


def test_parquet_equals_csv(tables: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import csv, parquet

    for name in ("nodes", "edges"):
        parquet.write_table(csv.read_csv(f"{name}.csv"), f"{name}.parquet")
    assert pyarrow is not None
    expected, found = ready(NodeTables()), ready(NodeTables("nodes.parquet", "edges.parquet"))
    torch.testing.assert_close(found.x, expected.x)
    assert torch.equal(found.edge_index, expected.edge_index)
    assert torch.equal(found.y, expected.y)


def test_arrays_and_pyg_files_are_read(tables: Path) -> None:
    expected = ready(NodeTables())
    arrays = {"x": expected.x.numpy(), "edge_index": expected.edge_index.numpy()}
    np.savez("a.npz", labels=expected.y.numpy(), **arrays)
    torch.save(Data(x=expected.x, edge_index=expected.edge_index, y=expected.y), "a.pt")
    for module in (NodeFile("a.npz", label="labels"), NodeFile("a.pt")):
        graph = ready(module)
        for name in ("x", "edge_index", "y", "train_mask"):
            assert torch.equal(graph[name], expected[name])
    links = LinkFile("a.pt", val_fraction=0.1)
    links.setup()
    assert links.graph is not None
    assert links.graph.val_edge_label.tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize("suffix", ["graphml", "gml"])
def test_graphs_of_networkx_are_read(tables: Path, suffix: str) -> None:
    network = networkx.karate_club_graph()
    for node, values in network.nodes(data=True):
        values["size"] = node % 5
    getattr(networkx, f"write_{suffix}")(network, f"a.{suffix}")
    graph = ready(NodeFile(f"a.{suffix}", label="club"))
    assert graph.x.squeeze(1).tolist() == [float(node % 5) for node in range(34)]
    assert graph.edge_index.shape == (2, 2 * network.number_of_edges())
    assert graph.y.bincount().tolist() == [17, 17]


@pytest.mark.parametrize("suffix", ["graphml", "gml"])
def test_missing_values_of_networkx(tables: Path, suffix: str) -> None:
    network = networkx.relabel_nodes(networkx.cycle_graph(11), {n: f"town {n}" for n in range(11)})
    for number, values in enumerate(network.nodes.values()):
        values.update({"size": number, "kind": "ab"[number % 2]})
    del network.nodes["town 3"]["kind"]
    write = getattr(networkx, f"write_{suffix}")
    write(network, f"a.{suffix}")
    module = NodeFile(f"a.{suffix}", label="kind")
    module.setup()
    assert module.graph is not None
    assert module.graph.y.tolist() == [0, 1, 0, -100, 0, 1, 0, 1, 0, 1, 0]
    assert module.class_names == ["a", "b"]
    assert module.node_names is not None
    assert module.node_names.read(torch.tensor([7, 2])) == ["town 7", "town 2"]
    del network.nodes["town 5"]["size"]
    write(network, f"a.{suffix}")
    with pytest.raises(ValueError, match="got None in row 6 of the column 'size', expected a num"):
        NodeFile(f"a.{suffix}", label="kind").setup()


COLOURS = ["red", "blue", "red"]


def resumed(module: NodeFile, other: NodeFile) -> NodeFile:
    """Return the other module with the state of one."""
    other.load_state_dict(module.state_dict())
    return other


def write_colours(suffix: str, colours: list[str]) -> None:
    """Write a cycle of nodes with x = 2, names, labels "a" and "b", and colours."""
    n = len(colours)
    kinds, names = ["ab"[i % 2] for i in range(n)], [f"town {i}" for i in range(n)]
    edges = np.array([range(n), [(i + 1) % n for i in range(n)]])
    if suffix == "npz":
        np.savez("a.npz", x=np.full((n, 1), 2.0), edge_index=edges, kind=kinds, colour=colours,
                 id=names)  # fmt: skip
    elif suffix == "pt":
        graph = Data(x=torch.full((n, 1), 2.0), edge_index=torch.from_numpy(edges), colour=colours)
        graph.kind, graph.id = kinds, names
        torch.save(graph, "a.pt")
    else:
        network = networkx.relabel_nodes(networkx.cycle_graph(n), dict(enumerate(names)))
        for i, values in enumerate(network.nodes.values()):
            values.update({"size": 2, "kind": kinds[i], "colour": colours[i]})
        getattr(networkx, f"write_{suffix}")(network, f"a.{suffix}")


@pytest.mark.parametrize("suffix", ["npz", "pt", "graphml", "gml"])
def test_columns_of_text_are_encoded_by_the_categories_of_training(
    tables: Path, suffix: str
) -> None:
    write_colours(suffix, 5 * COLOURS)
    options = {"label": "kind", "categories": ["colour"]}
    module = NodeFile(f"a.{suffix}", **options)  # type: ignore[arg-type]
    graph = ready(module)
    assert graph.x[:3].tolist() == [[2, 0, 1], [2, 1, 0], [2, 0, 1]]
    assert module.node_names is not None
    assert module.node_names.read(torch.tensor([7, 2])) == ["town 7", "town 2"]
    assert module.class_names == ["a", "b"]
    other = resumed(module, NodeFile(f"a.{suffix}", **options))  # type: ignore[arg-type]
    write_colours(suffix, ["red"] * 11)
    assert ready(other).x[0].tolist() == [2, 0, 1]
    write_colours(suffix, ["red"] * 10 + ["green"])
    with pytest.raises(ValueError, match="got 'green' in row 11 of the column 'colour', expected"):
        resumed(module, NodeFile(f"a.{suffix}", **options)).setup()  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="got no column 'age'"):
        NodeFile(f"a.{suffix}", label="kind", categories=["age"]).setup()


def test_tables_keep_the_categories_of_training(
    tables: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module, other = NodeTables(categories=["colour"]), NodeTables(categories=["colour"])
    ready(module)
    other.load_state_dict(module.state_dict())
    (tables / "nodes.csv").write_text(NODES.replace("blue", "red"))
    assert ready(other).x[0].tolist() == [0, 0, 1]
    late = NodeTables(categories=["colour"])
    assert ready(late).x[0].tolist() == [0, 1]
    late.load_state_dict(module.state_dict())  # as Lightning does, after `setup`
    assert ready(late).x[0].tolist() == [0, 0, 1]
    capsys.readouterr()


@pytest.mark.parametrize("suffix", ["npz", "graphml", "gml"])
def test_damaged_files_are_named(tables: Path, suffix: str) -> None:
    (tables / f"a.{suffix}").write_bytes(b"graph [ node [ id 0")
    with pytest.raises(ValueError, match=rf"a\.{suffix}: got "):
        NodeFile(f"a.{suffix}").setup()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"edge_index": np.zeros((5, 2), int)}, r"edge_index of shape \(5, 2\).*transpose"),
        ({"edge_index": np.array([[0, 7], [1, 2]])}, "edges of the nodes 0 to 7, expected 0 to 6"),
        ({"edge_index": np.array([[0, 3], [1, -2]])}, "edges of the nodes -2 to 3, expected 0 to"),
        ({"y": np.arange(5) % 2}, r"labels of shape \(5,\), expected one for each of the 7 nodes"),
    ],
)
def test_arrays_that_do_not_fit_are_named(
    tables: Path, change: dict[str, np.ndarray], message: str
) -> None:
    right = {"x": np.ones((7, 3)), "edge_index": np.array([[0, 6], [1, 2]]), "y": np.arange(7) % 2}
    np.savez("a.npz", **{**right, **change})
    with pytest.raises(ValueError, match=f"a.npz: got .*{message}"):
        NodeFile("a.npz").setup()


def test_a_list_of_graphs_is_read(tables: Path) -> None:
    graphs = [
        Data(x=torch.rand(3, 5), edge_index=torch.tensor([[0, 1], [1, 2]]), y=torch.tensor(i % 2))
        for i in range(13)
    ]
    torch.save(graphs, "graphs.pt")
    module = GraphFile("graphs.pt", num_folds=3)
    module.setup()
    assert (module.num_features, module.num_classes) == (5, 2)
    torch.save({"a": 1}, "other.pt")
    with pytest.raises(ValueError, match="got dict, expected a list of Data"):
        GraphFile("other.pt").setup()
    with pytest.raises(ValueError, match="dataset: got 'os.system', expected a class of"):
        PyGGraphs("os.system").setup()


def test_own_tables_by_command(tables: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--data", "NodeTables", "--trainer.max_epochs", "2", "--trainer.callbacks", "null"]
    assert main(["fit", "-c", "gcn_cora", *options]) == 0
    (run,) = (tables / "runs" / "gcn_cora").iterdir()
    assert main(["predict", "--ckpt", str(run), "--output", "a.csv"]) == 0
    header, *lines = (tables / "a.csv").read_text().splitlines()
    assert header == "node,class,probability_cat,probability_dog"
    module = NodeTables()
    nodes = ready(module).test_mask.nonzero()[:, 0].tolist()
    assert [line.split(",")[0] for line in lines] == [f"n{node}" for node in nodes]
    assert main(["predict", "--ckpt", str(run), "--output", "all.jsonl", "--split", "all"]) == 0
    rows = [json.loads(line) for line in (tables / "all.jsonl").read_text().splitlines()]
    assert [row["node"] for row in rows] == [f"n{node}" for node in range(23)]
    model = gf.load(run)
    assert model.classes == ["cat", "dog"]
    new_nodes = NODES.replace("label", "other").replace("n0,0.0", "n0,0.1")
    (tables / "new.csv").write_text(new_nodes)
    options = ["--ckpt", str(run), "--data.nodes", "new.csv", "--output", "new.csv.csv"]
    assert main(["predict", *options]) == 2  # no node has a label, and none is in a split
    assert "no labelled nodes in the split test" in capsys.readouterr().err
    assert main(["test", *options[:4]]) == 2
    assert main(["predict", *options, "--split", "all"]) == 0
    header, *lines_of_new = (tables / "new.csv.csv").read_text().splitlines()
    assert header == "node,class,probability_cat,probability_dog"
    assert len(lines_of_new) == 23
    graph = module.graph
    assert graph is not None
    new = Data(x=graph.x, edge_index=graph.edge_index)
    assert [model.predict(new).classes[n] for n in nodes] == [  # type: ignore[index]
        line.split(",")[1] for line in lines
    ]


def test_a_class_in_the_working_folder(tables: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tables / "my_own_data.py").write_text(
        "import torch\nfrom torch_geometric.data import Data\n"
        "from graphformer.data import FullGraph\n"
        "class Path5(FullGraph):\n"
        "    def read(self):\n"
        "        n = torch.arange(5)\n"
        "        mask = n < 5\n"
        "        return Data(x=torch.eye(5), edge_index=torch.stack([n, n.flip(0)]), y=n % 2,\n"
        "                    train_mask=mask, val_mask=mask, test_mask=mask)\n"
    )
    options = ["--trainer.max_epochs", "1", "--trainer.callbacks", "null"]
    assert main(["fit", "-c", "gcn_cora", "--data", "my_own_data.Path5", *options]) == 0
    (run,) = (tables / "runs" / "gcn_cora").iterdir()
    assert main(["test", "--ckpt", str(run)]) == 2  # its settings import a module
    assert main(["test", "--ckpt", str(run), "--trust", "my_own_data"]) == 0
    model = gf.load(run, trust=["my_own_data"])
    edges = torch.zeros(2, 1, dtype=torch.long)
    assert len(model.predict(Data(x=torch.eye(5), edge_index=edges))) == 5


def test_several_labels_of_a_node_by_command(
    tables: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = ["cat;red", "", "dog", "cat"]
    rows = [f"n{i},{i / 10},{cells[i % 4]}" for i in range(23)]
    (tables / "nodes.csv").write_text("\n".join(["id,age,label", *rows]))
    graph = ready_labels(NodeTables(label_separator=";"))
    assert graph.y[:3].tolist() == [[1, 0, 1], [-100] * 3, [0, 1, 0]]
    assert not graph.train_mask[1::4].any()
    settings = [
        "--data=NodeTables", "--data.label_separator=;", "--model=MultiLabelClassification",
        "--model.network=gcn", "--model.network.dim=5", "--model.network.depth=1",
        "--model.level=node", "--adjacency=Edges", "--model.class_weights=balanced",
        "--trainer.max_epochs=2", "--trainer.accelerator=cpu",
    ]  # fmt: skip
    assert main(["fit", *settings]) == 0
    (run,) = Path("runs/multilabelclassification").iterdir()
    assert main(["test", "--ckpt", str(run)]) == 0
    printed = capsys.readouterr().out
    assert "precision" in printed
    assert "best.ckpt" in printed
    assert main(["predict", "--ckpt", str(run), "--split", "all"]) == 0
    header, first, *_ = Path("predictions.csv").read_text().splitlines()
    assert header == "node,labels,probability_cat,probability_dog,probability_red"
    node, labels, *cells = first.split(",")
    probabilities = zip(("cat", "dog", "red"), map(float, cells), strict=True)
    chosen = [name for name, probability in probabilities if probability >= 0.5]
    assert (node, labels) == ("n0", ";".join(chosen))
    predicted = gf.load(run).predict(graph)
    assert predicted.classes is not None
    assert predicted.classes[0] == chosen


def ready_labels(module: NodeTables) -> Data:
    module.setup()
    assert module.graph is not None
    return module.graph
