"""Graphs with types of nodes and edges as one graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch_geometric.data import HeteroData

import graphformer as gf
from graphformer import models, patterns
from graphformer.cli import main
from graphformer.data import NodeFile
from graphformer.data.graph.own.hetero import from_hetero


def library() -> HeteroData:
    graph = HeteroData()
    graph["author"].x = torch.randn(5, 3)
    graph["paper"].x = torch.randn(7, 2)
    graph["paper"].y = torch.arange(7) % 3
    graph["venue"].num_nodes = 2
    graph["author", "writes", "paper"].edge_index = torch.tensor([[0, 4], [1, 6]])
    graph["paper", "in", "venue"].edge_index = torch.tensor([[0, 6, 3], [1, 0, 1]])
    return graph


def test_types_have_columns_numbers_and_edges() -> None:
    graph = library()
    one = from_hetero(graph)
    assert one.x.shape == (14, 6)
    torch.testing.assert_close(one.x[:5, :3], graph["author"].x)
    torch.testing.assert_close(one.x[5:12, 3:5], graph["paper"].x)
    assert one.x[12:].tolist() == [[0, 0, 0, 0, 0, 1]] * 2
    assert one.x[:5, 3:].abs().sum() == 0
    assert one.node_type.tolist() == [0] * 5 + [1] * 7 + [2] * 2
    assert one.edge_index.tolist() == [[0, 4, 5, 11, 8], [6, 11, 13, 12, 13]]
    assert one.edge_type.tolist() == [0, 0, 1, 1, 1]
    assert one.y.tolist() == [-100] * 5 + [i % 3 for i in range(7)] + [-100] * 2


def test_a_file_is_trained_with_types(tmp_path: Path) -> None:
    torch.save(library(), tmp_path / "library.pt")
    data = NodeFile(str(tmp_path / "library.pt"), node_type="paper")
    data.setup()
    assert data.graph is not None
    assert (data.num_features, data.num_classes) == (6, 3)
    drawn = data.graph.train_mask | data.graph.val_mask | data.graph.test_mask
    assert drawn.nonzero()[:, 0].tolist() == list(range(5, 12))
    network = models.graph_transformer(
        6, 3, dim=4, depth=1, num_heads=2, num_node_types=3, num_edge_types=2
    )
    output = network(data.graph, patterns.Edges(self_loops=True)(data.graph))
    assert output.shape == (14, 3)
    output[data.graph.train_mask].sum().backward()
    gradients = {name: p.grad for name, p in network.named_parameters() if "table" in name}
    assert gradients
    assert all(gradient is not None for gradient in gradients.values())


def test_hgt_takes_the_numbers_of_types_from_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(library(), "library.pt")
    words = [
        "fit", "--data", "NodeFile", "--data.path", "library.pt", "--data.node_type", "paper",
        "--model", "Classification", "--model.level", "node", "--model.network", "hgt",
        "--model.network.dim", "4", "--model.network.num_heads", "2", "--adjacency", "Edges",
        "--trainer.max_steps", "1", "--trainer.accelerator", "cpu",
    ]  # fmt: skip
    assert main(words) == 0
    network: Any = gf.load(max((tmp_path / "runs").rglob("last.ckpt"))).network
    assert network.num_edge_types == 2
    assert network.embedding.weight.shape[0] == 3


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="node_type: got 'author', expected one of .* paper"):
        from_hetero(library(), "author")
    empty = HeteroData()
    empty["a"].x = torch.zeros(3, 1)
    empty["a"].y = torch.zeros(3).long()
    with pytest.raises(ValueError, match="graph: got no edges"):
        from_hetero(empty)
    values = library()
    values["paper"].y = torch.randn(7)
    with pytest.raises(ValueError, match="paper: got real-valued labels without masks"):
        from_hetero(values)
    torch.save(library(), tmp_path / "a.pt")
    with pytest.raises(ValueError, match="undirected: got True for a graph with types of edges"):
        NodeFile(str(tmp_path / "a.pt"), undirected=True).setup()


def test_predictions_have_types_and_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    graph = library()
    graph["paper"].id = [f"p{n}" for n in range(7)]
    torch.save(graph, "library.pt")
    settings = [
        "--data=NodeFile", "--data.path=library.pt", "--model=Classification",
        "--model.network=graph_transformer", "--model.network.dim=4", "--model.network.depth=1",
        "--model.network.num_heads=2", "--model.network.num_node_types=3",
        "--model.network.num_edge_types=2", "--model.level=node", "--adjacency=Edges",
        "--trainer.max_epochs=1", "--trainer.accelerator=cpu",
    ]  # fmt: skip
    assert main(["fit", *settings]) == 0
    (run,) = Path("runs/classification").iterdir()
    assert main(["predict", "--ckpt", str(run), "--split", "all"]) == 0
    header, *rows = Path("predictions.csv").read_text().splitlines()
    assert header.startswith("type,node,class,probability_0")
    named = [row.split(",")[:2] for row in rows]
    papers = [["paper", f"p{n}"] for n in range(7)]
    others = [["venue", "0"], ["venue", "1"]]
    assert named == [["author", str(n)] for n in range(5)] + papers + others
    assert main(["predict", "--ckpt", str(run)]) == 0
    assert all(
        row.startswith("paper,p") for row in Path("predictions.csv").read_text().splitlines()[1:]
    )
    model = gf.load(run)
    predicted = model.predict(graph)
    assert len(predicted) == 14
    (saved,) = [row.split(",")[2] for row in rows if row.startswith("paper,p3,")]
    assert str(predicted.classes[5 + 3]) == saved  # type: ignore[index]
    with pytest.raises(TypeError, match="got one of the task Classification, expected a language"):
        model.generate("a")
    graph["author"].id = ["a"]
    torch.save(graph, "library.pt")
    with pytest.raises(ValueError, match="author: got 1 names 'id' for 5 nodes"):
        NodeFile("library.pt").setup()
