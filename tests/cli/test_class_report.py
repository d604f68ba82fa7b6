"""Tables and picture of the classes after a test."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.tasks import CLASSES, Batches, Linear, node_batch, trainer
from PIL import Image

from graphformer.cli.class_report import ClassReport, report_folder
from graphformer.tasks import Classification, Regression


def test_tables_and_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    batch = node_batch(13, 0)
    batch.y[batch.y == 3] = 1
    data = Batches([batch])
    data.class_names = ["ant", "bee", "cat", "dog", "eel"]
    task = Classification(Linear(), num_classes=CLASSES, level="node")
    with torch.no_grad():
        task.network.linear.weight.zero_()
        task.network.linear.bias.copy_(torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0]))
    trainer(callbacks=ClassReport(tmp_path)).test(task, data, verbose=False)
    lines = capsys.readouterr().out.splitlines()
    (bee, matrix_bee) = (line.split("│") for line in lines if "bee" in line and "│" in line)
    right = int((batch.y == 1).sum())
    expected = [f"{right / 13:.3f}", "1.000", f"{2 * right / (13 + right):.3f}", str(right)]
    assert [cell.strip() for cell in bee[2:-1]] == expected
    assert [cell.strip() for cell in matrix_bee[2:-1]] == ["0", str(right), "0", "0", "0"]
    dog = next(line for line in lines if "dog" in line)
    assert dog.split("│")[2].strip() == "-"  # no predictions: precision is not defined
    with Image.open(tmp_path / "confusion.png") as picture:
        assert min(picture.size) > 300


def test_a_folder_that_cannot_be_written_loses_no_metrics(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = Classification(Linear(), num_classes=CLASSES, level="node")
    report = ClassReport(tmp_path / "missing")
    (metrics,) = trainer(callbacks=report).test(task, Batches([node_batch(7, 0)]), verbose=False)
    assert "test/accuracy" in metrics
    assert "no picture of the confusion matrix: [Errno 2]" in capsys.readouterr().out


def test_other_tasks_have_no_report(capsys: pytest.CaptureFixture[str]) -> None:
    batch = node_batch(7, 0)
    batch.y = batch.y.float()
    task = Regression(Linear(outputs=1), level="node")
    trainer(callbacks=ClassReport(None)).test(task, Batches([batch]), verbose=False)
    assert "precision" not in capsys.readouterr().out


def test_folder_of_a_checkpoint() -> None:
    assert report_folder(Path("/runs/a/b/checkpoints/best.ckpt")) == Path("/runs/a/b")
    assert report_folder(Path("/elsewhere/a.ckpt")) == Path("/elsewhere")
    assert report_folder(None) is None
