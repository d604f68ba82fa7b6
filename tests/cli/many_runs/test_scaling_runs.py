"""`graphformer scaling run`: sizes by depth, budgets, FLOPs by edges, finished runs kept."""

from __future__ import annotations

import csv
import shutil
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

    # The table alone, as on another machine, and further sizes: rows stay, nothing is repeated.
    shutil.rmtree(Path(small["run"]))
    capsys.readouterr()
    assert main([*line, "--depths", "1"]) == 0
    assert "depth1-ratio0.2: loss" in capsys.readouterr().out
    assert rows("runs.csv") == [small, large]
    assert not Path(small["run"]).exists()

    # A window has fewer edges: the same tokens cost less by exactly these.
    window = ["--adjacency", "Window", "--adjacency.radius", "3", "--adjacency.causal", "true"]
    assert main([*line[:-1], "window.csv", *window]) == 0
    fewer = edges - 3 * (1 + 2 + 3 + 14 * 4)
    for full, sparse, depth in zip((small, large), rows("window.csv"), (1, 2), strict=True):
        steps = int(full["D"]) // tokens
        saved = float(full["C"]) - float(sparse["C"])
        assert saved == pytest.approx(steps * 12 * fewer * 8 * depth * depth)


@pytest.mark.parametrize(
    ("text", "part"),
    [("N,D,loss\n1,2,3\n", "has the columns ['N', 'D', 'loss']"),
     ("depth,tokens_per_parameter,N,D,C,loss,run\n1,5.0,9,9,9.0,2.0,runs/lm-0123/depth1-ratio5\n",
      "has runs of other settings, of the folder lm-0123")],
)  # fmt: skip
def test_a_table_of_something_else_is_not_overwritten(
    text_folder: Path, capsys: pytest.CaptureFixture[str], text: str, part: str
) -> None:
    Path("lm.yaml").write_text(yaml.safe_dump(SETTINGS))
    Path("runs.csv").write_text(text)
    assert main([*LINE, "--out", "runs.csv"]) == 2
    assert part in capsys.readouterr().err
    assert Path("runs.csv").read_text() == text
