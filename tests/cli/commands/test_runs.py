"""`graphformer runs`: tables of recorded runs, sorted, compared and written."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import yaml
from helpers.runs import Run

from graphformer.cli import main

GRAPH = {
    "model": {"class_path": "graphformer.tasks.Classification", "init_args": {"lr": 0.5}},
    "data": {"class_path": "graphformer.data.Cora", "init_args": {"root": "data"}},
}


def record(folder: Path, config: dict[str, object], **test: float) -> None:
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    metrics = {f"test/{name}": value for name, value in test.items()}
    (folder / "result.json").write_text(json.dumps({"best": {}, "metrics": metrics}))


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for number, (lr, accuracy) in enumerate([(0.5, 0.7), (0.25, 0.9), (0.125, 0.8)]):
        model = {**GRAPH["model"], "init_args": {"lr": lr}}
        values = {"accuracy": accuracy, "loss": 1 - accuracy}
        record(tmp_path / f"runs/gat/run{number}", {**GRAPH, "model": model}, **values)
    return tmp_path


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("arguments", "order"),
    [
        ([], "012"),
        (["--sort", "test/accuracy"], "120"),
        (["--sort", "test/accuracy", "--reverse"], "021"),
        (["--sort", "test/loss"], "120"),
        (["--sort", "model.lr"], "210"),
    ],
)
def test_table_has_the_settings_that_differ(
    recorded: Path, arguments: list[str], order: str
) -> None:
    assert main(["runs", *arguments, "--out", "table.csv"]) == 0
    table = rows(Path("table.csv"))
    assert list(table[0]) == ["run", "model.lr", "test/accuracy", "test/loss"]
    assert [row["run"] for row in table] == [f"gat/run{number}" for number in order]


def test_runs_without_the_metric_are_last(recorded: Path) -> None:
    record(recorded / "runs/other", {"data": "x"}, perplexity=3.0)
    assert main(["runs", "--sort", "test/accuracy", "--out", "table.csv"]) == 0
    assert rows(Path("table.csv"))[-1]["run"] == "other"


def test_comparison_of_runs_of_different_tasks_that_were_moved(
    trained: Run, recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained.folder, recorded / "moved")
    assert main(["runs", "--compare", "moved", "gat/run1", "--out", "pair.csv"]) == 0
    table = {row[""]: row for row in rows(Path("pair.csv"))}
    assert table["data"]["moved"] == "graphformer.data.Digits"
    assert table["data"]["runs/gat/run1"] == "graphformer.data.Cora"
    assert table["model.network.dim"]["moved"] == "12"
    assert table["model.network.dim"]["runs/gat/run1"] == ""
    assert 0 < float(table["val/accuracy"]["moved"]) < 1
    assert "model" not in table  # both are classifications
    assert "settings differ" in capsys.readouterr().out
    assert main(["runs", "--compare", "moved", "gat/run1", "--all", "--out", "all.csv"]) == 0
    assert "model" in {row[""] for row in rows(Path("all.csv"))}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "runs: there is no folder nowhere"),
        (["empty"], "runs: got no run below empty"),
        (["--sort", "test/acuracy"], "--sort: got 'test/acuracy', expected a metric or setting"),
        (["--out", "no/a.csv"], "--out: got no/a.csv, but there is no folder no"),
        (["--compare", "empty", "gat/run0"], "runs: empty has no config.yaml"),
    ],
)
def test_wrong_lines(
    recorded: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    (recorded / "empty").mkdir()
    assert main(["runs", *arguments]) == 2
    assert message in capsys.readouterr().err
