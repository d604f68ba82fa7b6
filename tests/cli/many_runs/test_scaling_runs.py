"""`graphformer scaling run`: sizes by depth, budgets, FLOPs by edges, finished runs kept."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import yaml
from helpers.runs import TEXT

from graphformer.cli import main

SETTINGS = {
    "model": {
        "class_path": "graphformer.tasks.LanguageModeling",
        "init_args": {
            "network": {
                "class_path": "graphformer.models.language_model",
                "init_args": {"dim": 8, "depth": 1, "num_heads": 2, "max_length": 17},
            },
            "adjacency": "Causal",
            "schedule": "cosine",
            "warmup_steps": 1,
        },
    },
    "data": {
        "class_path": "graphformer.data.TextFile",
        "init_args": {"path": "text.txt", "root": ".", "block_size": 17, "batch_size": 3},
    },
    "trainer": {"accelerator": "cpu"},
}
LINE = ["scaling", "run", "-c", "lm.yaml", "--width", "8", "--depths", "1", "2"]


def rows(path: str) -> list[dict[str, str]]:
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_sizes_and_budgets(text_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("text.txt").write_text(TEXT * 3)
    Path("lm.yaml").write_text(yaml.safe_dump(SETTINGS))
    line = [*LINE, "--ratios", "0.2", "90", "--out", "runs.csv"]
    assert main(line) == 0
    assert "depth2-ratio90: left out" in capsys.readouterr().out
    small, large = rows("runs.csv")
    tokens, edges = 3 * 17, 3 * 17 * 18 // 2  # of a batch, over triangles
    for row, depth in ((small, 1), (large, 2)):
        D, dim = int(row["D"]), 8 * depth
        steps = D // tokens
        assert steps == max(1, round(0.2 * int(row["N"]) / tokens))
        run = Path(row["run"])
        config = yaml.safe_load((run / "config.yaml").read_text())
        assert config["trainer"]["max_steps"] == steps
        assert config["model"]["init_args"]["network"]["init_args"]["dim"] == dim
    before = [(Path(row["run"]) / "result.json").stat().st_mtime_ns for row in (small, large)]
    assert main(line) == 0  # finished runs are read
    assert before == [
        (Path(row["run"]) / "result.json").stat().st_mtime_ns for row in rows("runs.csv")
    ]
    assert main([*line[:-1], "narrow.csv", "--depths", "1", "--width", "4"]) == 0
    assert int(rows("narrow.csv")[0]["N"]) < int(small["N"])
    (Path(small["run"]) / "result.json").unlink()  # as if the run had been interrupted
    assert main(line) == 0
    assert rows("runs.csv") == [small, large]

    # A window has fewer edges: the same tokens cost less by exactly these.
    window = ["--adjacency", "Window", "--adjacency.radius", "3", "--adjacency.causal", "true"]
    assert main([*line[:-1], "window.csv", *window]) == 0
    fewer = edges - 3 * (1 + 2 + 3 + 14 * 4)
    for full, sparse, depth in zip((small, large), rows("window.csv"), (1, 2), strict=True):
        steps = int(full["D"]) // tokens
        saved = float(full["C"]) - float(sparse["C"])
        assert saved == pytest.approx(steps * 12 * fewer * 8 * depth * depth)
