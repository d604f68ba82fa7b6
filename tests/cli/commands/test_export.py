"""`graphformer export` of a run of the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import graphformer as gf
from graphformer.cli import main

NODES = "id,age,label\n" + "".join(f"n{i},{i / 10},{'ab'[i % 2]}\n" for i in range(23))
EDGES = "source,target\n" + "".join(f"n{i},n{(i + 2) % 23}\n" for i in range(23))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("nodes.csv").write_text(NODES)
    Path("edges.csv").write_text(EDGES)
    settings = [
        "--data=NodeTables", "--model=Classification", "--model.network=gat",
        "--model.network.dim=3", "--model.network.num_heads=2", "--model.level=node",
        "--adjacency=Edges", "--adjacency.self_loops=true", "--trainer.max_epochs=1",
        "--trainer.accelerator=cpu",
    ]  # fmt: skip
    assert main(["fit", *settings]) == 0
    (folder,) = Path("runs/classification").iterdir()
    return folder


def test_a_run_becomes_a_program(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "--ckpt", str(run), "--out", "a.pt2"]) == 0
    printed = capsys.readouterr().out
    assert "wrote a.pt2: form edges, inputs x [23, 1], edge_index [2, 69]" in printed
    model = gf.load(run)
    assert model.data is not None
    model.data.setup()
    (batch,) = model.data.test_dataloader()
    edges = model.adjacency(batch).edge_index
    found = torch.export.load("a.pt2").module()(batch.x, edges)
    torch.testing.assert_close(found, model.predict(batch).output, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "a.txt"], "--out: got a.txt, expected a name that ends in .onnx or .pt2"),
        (["--out", "nowhere/a.pt2"], "--out: got nowhere/a.pt2, but there is no folder nowhere"),
        (["--out", "a.pt2", "--opset", "20"], "--opset: got it for .pt2"),
        (["--out", "a.pt2"], "there is no checkpoint"),
    ],
)
def test_wrong_arguments_are_one_sentence(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", "--ckpt", "missing", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
