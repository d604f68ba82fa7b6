"""Links of own tables to predict."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch_geometric.data import Data, HeteroData

import graphformer as gf
from graphformer.cli import main
from graphformer.data import LinkFile, LinkTables

EDGES = "source,target\n" + "".join(f"n{i},n{(i + 2) % 23}\n" for i in range(23))
NODES = "id,age,name\n" + "".join(f"n{i},{i},a\n" for i in reversed(range(23)))


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "edges.csv").write_text(EDGES)
    (tmp_path / "nodes.csv").write_text(NODES)
    return tmp_path


@pytest.mark.parametrize("nodes", [None, "nodes.csv"])
def test_edges_are_hidden_and_named(tables: Path, nodes: str | None) -> None:
    data = LinkTables(nodes=nodes, val_fraction=0.1)
    data.setup()
    graph = data.graph
    assert graph is not None
    assert graph.val_edge_label.tolist() == [1, 1, 0, 0]
    assert data.node_names is not None
    names = data.node_names.read(torch.arange(23))
    assert sorted(names) == sorted(f"n{i}" for i in range(23))
    ages = [[float(str(name)[1:])] for name in names]
    assert graph.x.tolist() == ([[1.0]] * 23 if nodes is None else ages)
    pairs = zip(*(data.node_names.read(end) for end in graph.train_edge_label_index), strict=True)
    wanted = {frozenset((f"n{i}", f"n{(i + 2) % 23}")) for i in range(23)}
    assert {frozenset(map(str, pair)) for pair in pairs} <= wanted


def test_wrong_tables_are_named(tables: Path) -> None:
    with pytest.raises(ValueError, match="edges.csv: got no column 'who', expected one of source"):
        LinkTables(source="who").setup()
    (tables / "edges.csv").write_text(EDGES + "n1,elephant\n")
    with pytest.raises(ValueError, match="got the node 'elephant' in the column 'target'"):
        LinkTables(nodes="nodes.csv").setup()


def test_links_by_command(tables: Path) -> None:
    settings = [
        "--data=LinkTables", "--data.nodes=nodes.csv", "--model=LinkPrediction",
        "--model.network=gcn", "--model.network.dim=5", "--model.network.depth=1",
        "--model.network.num_classes=3", "--adjacency=Edges", "--trainer.max_epochs=1",
        "--trainer.accelerator=cpu",
    ]  # fmt: skip
    assert main(["fit", *settings]) == 0
    (run,) = Path("runs/linkprediction").iterdir()
    assert main(["predict", "--ckpt", str(run)]) == 0
    header, first, *_ = Path("predictions.csv").read_text().splitlines()
    assert header == "source,target,probability"
    assert first.startswith("n")


def test_a_typed_graph_needs_no_labels(tmp_path: Path) -> None:
    graph = HeteroData()
    graph["a"].x, graph["b"].x = torch.randn(11, 2), torch.randn(13, 3)
    ends = torch.stack([torch.arange(11), torch.arange(11) + 2])
    graph["a", "to", "b"].edge_index = ends
    torch.save(graph, tmp_path / "a.pt")
    data = LinkFile(str(tmp_path / "a.pt"), val_fraction=0.1)
    data.setup()
    assert data.graph is not None
    assert data.graph.x.shape == (24, 5)
    found = {tuple(pair) for pair in data.graph.train_edge_label_index.T.tolist()}
    assert found <= {(i, i + 13) for i in range(11)}


def test_a_loaded_run_scores_pairs(tables: Path) -> None:
    words = [
        "fit", "--data", "LinkTables", "--model", "LinkPrediction", "--model.network", "gcn",
        "--model.network.num_classes", "3", "--model.network.dim", "4", "--adjacency", "Edges",
        "--trainer.max_steps", "1", "--trainer.accelerator", "cpu",
    ]  # fmt: skip
    assert main(words) == 0
    model = gf.load(max(Path("runs").rglob("last.ckpt")))
    data = LinkTables()
    data.setup()
    assert data.graph is not None
    assert model.task is not None
    edges = data.graph.edge_index
    pairs = [(0, 7), (3, 5), (2, 2)]
    with torch.no_grad():
        expected = model.task.scores(data.graph, torch.tensor(pairs).T)  # type: ignore[operator]
    one_direction = Data(x=data.graph.x, edge_index=edges[:, edges[0] < edges[1]])
    for given in (pairs, torch.tensor(pairs).T):
        found = model.predict(one_direction, pairs=given)
        torch.testing.assert_close(found.output, expected)
        torch.testing.assert_close(found.probabilities, expected.sigmoid())
    x = model.encode(one_direction)
    torch.testing.assert_close((x[0] * x[7]).sum(), expected[0])
    with pytest.raises(ValueError, match="pairs: got the node 23, expected numbers from 0 to 22"):
        model.predict(one_direction, pairs=[(0, 23)])
    with pytest.raises(ValueError, match=r"pairs: got \[3, 2\] of torch.int64, expected numbers"):
        model.predict(one_direction, pairs=torch.tensor(pairs))
    with pytest.raises(TypeError, match="pairs: got none with Data, expected pairs of nodes"):
        model.predict(one_direction)
