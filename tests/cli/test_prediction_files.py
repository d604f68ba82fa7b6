"""Names of the rows of prediction files."""

from __future__ import annotations

import csv
from itertools import chain
from pathlib import Path

import networkx
import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from graphformer.cli import main
from graphformer.cli.prediction_files import write_predictions
from graphformer.cli.predictions import Rows
from graphformer.data import GraphFile, LabelledText, LinkFile
from graphformer.data.base import DataModule
from graphformer.tasks import Classification, LinkPrediction, Task


def written(task: Task, data: DataModule, outputs: list[Tensor], folder: Path) -> list[list[str]]:
    """The rows of the file of some outputs, header included."""
    path = folder / "a.csv"
    write_predictions(task, data, path, [Rows(output) for output in outputs])
    return list(csv.reader(path.read_text().splitlines()))


@pytest.fixture
def task() -> Task:
    return Classification(nn.Linear(1, 2), num_classes=2)


def test_texts_have_their_number_in_the_file(tmp_path: Path, task: Task) -> None:
    rows = [f"text {i},{'ab'[i % 2]}" for i in range(23)]
    (tmp_path / "a.csv").write_text("\n".join(["text,label", *rows]))
    data = LabelledText(str(tmp_path / "a.csv"), vocabulary="bytes", test_fraction=0.3)
    data.setup()
    drawn = {split: data.sample_numbers(split) for split in ("train", "val", "test")}
    assert sorted(chain(*drawn.values())) == list(range(23))
    for split, numbers in drawn.items():
        assert [text for text, _ in data.splits[split]] == [f"text {n}" for n in numbers]
    outputs = list(torch.zeros(7, 2).split(1))
    header, *found = written(task, data, outputs, tmp_path)
    assert header[0] == "sample"
    assert [int(row[0]) for row in found] == drawn["test"]
    header, *found = written(task, data, outputs[:3], tmp_path)  # limit_predict_batches
    assert [int(row[0]) for row in found] == drawn["test"][:3]


def test_texts_of_a_file_of_their_own_are_counted_from_0(tmp_path: Path, task: Task) -> None:
    rows = [f"text {i},{'ab'[i % 2]}" for i in range(5)]
    (tmp_path / "a.csv").write_text("\n".join(["text,label", *rows]))
    path = str(tmp_path / "a.csv")
    data = LabelledText(path, test_path=path, vocabulary="bytes")
    data.setup()
    _, *found = written(task, data, list(torch.zeros(5, 2).split(1)), tmp_path)
    assert [row[0] for row in found] == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("level", ["graph", "node"])
def test_graphs_have_their_number_in_the_file(tmp_path: Path, task: Task, level: str) -> None:
    sizes = [2 + i % 3 for i in range(13)]
    graphs = [
        Data(
            x=torch.full((n, 3), float(i)),
            edge_index=torch.tensor([[0], [1]]),
            y=torch.tensor([i % 2] * (n if level == "node" else 1)),
        )
        for i, n in enumerate(sizes)
    ]
    torch.save(graphs, tmp_path / "a.pt")
    data = GraphFile(str(tmp_path / "a.pt"), num_folds=4, level=level)
    data.setup()
    drawn = {split: data.sample_numbers(split) for split in ("train", "val", "test")}
    assert sorted(chain(*drawn.values())) == list(range(13))
    (batch,) = data.batches("test")
    assert batch.x[batch.ptr[:-1], 0].tolist() == drawn["test"]
    rows = [sizes[n] if level == "node" else 1 for n in drawn["test"]]
    _, *found = written(task, data, [torch.zeros(n, 2) for n in rows], tmp_path)
    expected = [n for n, count in zip(drawn["test"], rows, strict=True) for _ in range(count)]
    assert [int(row[0]) for row in found] == expected


def test_links_have_the_names_of_their_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    network = networkx.cycle_graph(29)
    networkx.write_graphml(networkx.relabel_nodes(network, lambda n: f"town {n}"), "a.graphml")
    settings = ["--data", "LinkFile", "--data.path", "a.graphml", "--trainer.max_epochs", "1"]
    assert main(["fit", "-c", "gcn_cora_links", *settings]) == 0
    (run,) = Path("runs/gcn_cora_links").iterdir()
    data = LinkFile("a.graphml")
    data.setup()
    assert data.graph is not None
    for split in ("val", "test", "train"):
        arguments = ["predict", "--ckpt", str(run), "--split", split, "--output", "a.csv"]
        assert main(arguments) == 0
        header, *rows = csv.reader(Path("a.csv").read_text().splitlines())
        assert header == ["source", "target", "probability"]
        pairs = data.graph[f"{split}_edge_label_index"].T.tolist()
        assert [row[:2] for row in rows] == [[f"town {a}", f"town {b}"] for a, b in pairs]
        assert all(0 < float(row[2]) < 1 for row in rows)
    assert main(["predict", "--ckpt", str(run), "--split", "all"]) == 2


def test_the_probability_of_a_link_is_that_of_its_logit(tmp_path: Path) -> None:
    networkx.write_gml(networkx.cycle_graph(29), tmp_path / "a.gml")
    data = LinkFile(str(tmp_path / "a.gml"))
    data.setup()
    assert data.graph is not None
    count = data.graph.test_edge_label_index.shape[1]
    logits = torch.linspace(-3, 3, count)
    _, *rows = written(LinkPrediction(nn.Linear(1, 2)), data, [logits], tmp_path)
    found = torch.tensor([float(row[2]) for row in rows])
    torch.testing.assert_close(found, 1 / (1 + (-logits).exp()))
