"""What the commands print."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.tasks import CLASSES, Batches, Linear, node_batch, trainer
from torch import nn

from graphformer.cli.console import PrintProgress, PrintResult
from graphformer.tasks import Classification


def finished(**changes: Any) -> Any:
    """What `PrintResult` reads of a trainer after 7 steps."""
    metrics = {"val/loss": torch.tensor(0.5)}
    known = {"is_global_zero": True, "global_step": 7, "callback_metrics": metrics}
    return SimpleNamespace(**(known | changes))


def printed(folder: Path | None, trainer: Any, capsys: pytest.CaptureFixture[str]) -> str:
    module: Any = nn.Module()
    PrintResult(folder).on_fit_end(trainer, module)
    return capsys.readouterr().out


def test_the_result_is_metrics_steps_and_checkpoints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    for name in ("last.ckpt", "best.ckpt", ".last.ckpt.123", "notes.txt"):
        (tmp_path / "checkpoints").mkdir(exist_ok=True)
        (tmp_path / "checkpoints" / name).write_text("")
    lines = printed(tmp_path, finished(), capsys).splitlines()
    assert lines[0] == "after 7 steps"
    assert any("val/loss" in line and "0.5000" in line for line in lines)
    assert lines[-1] == f"checkpoints: {tmp_path / 'checkpoints'} (best.ckpt, last.ckpt)"


@pytest.mark.parametrize("has_folder", [True, False])
def test_a_run_without_checkpoints(
    tmp_path: Path, has_folder: bool, capsys: pytest.CaptureFixture[str]
):
    out = printed(tmp_path if has_folder else None, finished(), capsys)
    assert out.startswith("after 7 steps\n")
    assert "checkpoints" not in out


@pytest.mark.parametrize("changes", [{"is_global_zero": False}, {"callback_metrics": {}}])
def test_other_processes_and_finished_runs_print_nothing(
    changes: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert printed(tmp_path, finished(**changes), capsys) == ""


def test_progress_is_a_line_after_each_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    data = Batches([node_batch(7, 0)])
    task = Classification(Linear(), num_classes=CLASSES, level="node", metrics=[])
    options = {"max_epochs": 2, "num_sanity_val_steps": 0, "log_every_n_steps": 1}
    trainer(callbacks=PrintProgress(seconds=0), **options).fit(task, data)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(", train")[0] for line in lines] == [
        "epoch 1/2, step 1",
        "epoch 2/2, step 2",
    ]
    assert "val/loss" in lines[0]
    trainer(callbacks=PrintProgress(seconds=1e9), **options).fit(task, data)
    assert not capsys.readouterr().out
