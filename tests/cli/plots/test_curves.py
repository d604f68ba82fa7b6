"""Training curves from `metrics.csv`."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphformer.cli.errors import UsageError
from graphformer.cli.plots.curves import draw_curves, read_curves

CSV = "epoch,step,train/loss,val/loss,val/accuracy\n0,2,1.5,,\n0,4,,1.25,0.5\n1,8,0.75,,\n"


def test_empty_cells_are_no_points(tmp_path: Path):
    (tmp_path / "metrics.csv").write_text(CSV)
    expected = {
        "train/loss": [(2, 1.5), (8, 0.75)],
        "val/loss": [(4, 1.25)],
        "val/accuracy": [(4, 0.5)],
    }
    assert read_curves(tmp_path) == expected


def test_a_checkpoint_stands_for_its_run(tmp_path: Path):
    (tmp_path / "metrics.csv").write_text(CSV)
    (tmp_path / "checkpoints").mkdir()
    checkpoint = tmp_path / "checkpoints" / "last.ckpt"
    checkpoint.touch()
    assert read_curves(checkpoint) == read_curves(tmp_path)


def test_one_panel_per_metric_with_both_stages(tmp_path: Path):
    (tmp_path / "metrics.csv").write_text(CSV)
    accuracy, loss = draw_curves(tmp_path).axes
    assert (accuracy.get_title(), loss.get_title()) == ("accuracy", "loss")
    assert [line.get_label() for line in loss.lines] == ["train/loss", "val/loss"]
    assert loss.lines[0].get_xydata().tolist() == [[2, 1.5], [8, 0.75]]


@pytest.mark.parametrize(("text", "message"), [(None, "no metrics.csv"), ("step\n", "no metrics")])
def test_runs_without_metrics(tmp_path: Path, text: str | None, message: str):
    if text is not None:
        (tmp_path / "metrics.csv").write_text(text)
    with pytest.raises(UsageError, match=f"contains {message}"):
        draw_curves(tmp_path)
