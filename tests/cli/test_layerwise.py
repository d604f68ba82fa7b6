"""`--layerwise` and `--split all` of sampled neighbourhoods: outputs from all edges, in parts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from helpers.stored_graphs import arrays, store
from torch import Tensor
from torch_geometric.data import Data

import graphformer as gf
from graphformer.cli import layerwise as module
from graphformer.cli import main
from graphformer.patterns import Edges

NODES = 211


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run of a network that was trained on sampled neighbourhoods of a stored graph."""
    folder = tmp_path_factory.mktemp("layerwise")
    store(folder / "graph", arrays())
    settings = {
        "model": {
            "class_path": "Classification",
            "init_args": {
                "network": {
                    "class_path": "graphformer.models.gat",
                    "init_args": {"dim": 3, "num_edge_features": 2},
                },
                "adjacency": {"class_path": "Edges", "init_args": {"self_loops": True}},
                "level": "node",
            },
        },
        "data": {
            "class_path": "StoredNodes",
            "init_args": {"path": str(folder / "graph"), "fanouts": [1, 1], "batch_size": 23},
        },
        "trainer": {
            "max_epochs": 2,
            "accelerator": "cpu",
            "default_root_dir": str(folder / "runs"),
        },
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(settings))
    assert main(["fit", "-c", str(folder / "run.yaml")]) == 0
    (found,) = (folder / "runs").glob("*/*")
    return found


def expected_outputs(run: Path) -> Tensor:
    """Return the outputs of all nodes in one call of the network."""
    graph = Data(**arrays(), lengths=(NODES,))
    with torch.no_grad():
        return gf.load(run).network.eval()(graph, Edges(self_loops=True))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_all_nodes_are_those_of_one_call(run: Path, tmp_path: Path) -> None:
    outputs = expected_outputs(run)
    predict = ["predict", "--ckpt", str(run), "--split", "all", "--output"]
    assert main([*predict, "all.pt"]) == 0
    torch.testing.assert_close(torch.load("all.pt"), outputs, rtol=1e-4, atol=1e-5)
    assert main([*predict, "all.csv"]) == 0
    header, *lines = Path("all.csv").read_text().splitlines()
    assert header == "node,class,probability_0,probability_1,probability_2"
    assert [int(line.split(",")[0]) for line in lines] == list(range(NODES))
    assert [int(line.split(",")[1]) for line in lines] == outputs.argmax(1).tolist()
    assert main([*predict, "all.jsonl"]) == 0
    records = [json.loads(line) for line in Path("all.jsonl").read_text().splitlines()]
    assert [list(map(str, record.values())) for record in records] == [
        line.split(",") for line in lines
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.csv", "all.jsonl", "all.pt"]


def test_parquet_has_the_same_rows(run: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    main(["predict", "--ckpt", str(run), "--split", "all", "--output", "all.parquet"])
    table = parquet.read_table("all.parquet").to_pydict()
    assert table["node"] == list(range(NODES))
    assert list(map(int, table["class"])) == expected_outputs(run).argmax(1).tolist()


@pytest.mark.parametrize("split", ["train", "test"])
def test_nodes_of_a_split_are_in_the_order_of_the_graph(run: Path, split: str) -> None:
    main(["predict", "--ckpt", str(run), "--layerwise", "true", "--split", split])
    lines = Path("predictions.csv").read_text().splitlines()[1:]
    graph = Path(yaml.safe_load((run / "config.yaml").read_text())["data"]["init_args"]["path"])
    nodes = gf.data.MemoryMappedGraph(graph).split_nodes(split)
    assert [int(line.split(",")[0]) for line in lines] == nodes.tolist()
    classes = expected_outputs(run)[nodes].argmax(1).tolist()
    assert [int(line.split(",")[1]) for line in lines] == classes


def test_metrics_are_those_of_all_edges(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = Path(yaml.safe_load((run / "config.yaml").read_text())["data"]["init_args"]["path"])
    nodes = gf.data.MemoryMappedGraph(graph).split_nodes("test")
    logits, y = expected_outputs(run)[nodes], arrays()["y"][nodes]
    capsys.readouterr()
    assert main(["test", "--ckpt", str(run), "--layerwise", "true"]) == 0
    printed = capsys.readouterr().out
    found = {
        words[-2]: float(words[-1])
        for words in (line.replace("│", " ").split() for line in printed.splitlines())
        if len(words) > 1 and words[-2].startswith("test/")
    }
    loss = torch.nn.functional.cross_entropy(logits, y)
    assert found["test/loss"] == pytest.approx(float(loss), abs=1e-4)
    accuracy = (logits.argmax(1) == y).float().mean()
    assert found["test/accuracy"] == pytest.approx(float(accuracy), abs=1e-4)
    assert main(["validate", "--ckpt", str(run), "--layerwise", "true"]) == 0
    assert list(tmp_path.iterdir()) == []


def test_double_precision(run: Path) -> None:
    words = ["--split", "all", "--output", "all.pt", "--trainer.precision", "64-true"]
    assert main(["predict", "--ckpt", str(run), *words]) == 0
    torch.testing.assert_close(torch.load("all.pt"), expected_outputs(run), rtol=1e-4, atol=1e-5)


def test_an_error_leaves_no_file(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Tensor:
        raise OSError(28, "No space left on device", "outputs.npy")

    monkeypatch.setattr(module, "predict_stored_graph", fail)
    for suffix in (".csv", ".pt"):
        words = ["--split", "all", "--output", f"all{suffix}"]
        assert main(["predict", "--ckpt", str(run), *words]) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_graph_in_memory(run: Path) -> None:
    given = {name: value.numpy() for name, value in arrays().items()}
    np.savez("graph.npz", **given)
    settings = {
        "class_path": "NeighborNodes",
        "init_args": {
            "graph": {"class_path": "NodeFile", "init_args": {"path": "graph.npz"}},
            "fanouts": [2, 2],
        },
    }
    Path("data.yaml").write_text(yaml.safe_dump({"data": settings}))
    words = ["-c", "data.yaml", "--split", "all", "--output", "all.pt"]
    assert main(["predict", "--ckpt", str(run), *words]) == 0
    torch.testing.assert_close(torch.load("all.pt"), expected_outputs(run), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fit", "--layerwise", "true"], "--layerwise: got it with fit, expected test or predict"),
        (
            ["predict", "--layerwise", "true", "--trainer.devices", "2"],
            "--layerwise: got 2 processes, expected one",
        ),
        (
            ["test", "--layerwise", "true", "--adjacency", "Complete"],
            "--layerwise: got the adjacency Complete(), expected Edges() or Edges(self_loops=True)",
        ),
    ],
)
def test_what_is_impossible_is_refused(
    run: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([words[0], "--ckpt", str(run), *words[1:]]) == 2
    assert message in capsys.readouterr().err
