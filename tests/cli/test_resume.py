"""TrainingStopped and resumed runs, and what a resumed run refuses."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch
from helpers.runs import Run

from graphformer.cli import main
from graphformer.tasks import Classification


def press_ctrl_c(monkeypatch: pytest.MonkeyPatch, method: str, call: int) -> None:
    """Send SIGINT during the given call (counted from 1) of a task's method."""
    original = getattr(Classification, method)
    calls = 0

    def pressed(self, batch, batch_idx):
        nonlocal calls
        calls += not self.trainer.sanity_checking
        if calls == call:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, batch, batch_idx)

    monkeypatch.setattr(Classification, method, pressed)


@pytest.mark.parametrize(
    ("method", "call"),
    [
        ("training_step", 4),
        ("training_step", 7),  # the last batch of an epoch
        ("training_step", 10),
        ("validation_step", 2),
    ],
)
def test_interrupted_run_goes_on_as_if_nothing_had_been(
    trained: Run,
    workplace: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    call: int,
):
    with monkeypatch.context() as patch:
        press_ctrl_c(patch, method, call)
        assert main(["fit", "-c", "tiny.yaml"]) == 130
    assert "resume with: graphformer fit --ckpt runs/tiny/" in capsys.readouterr().out
    (folder,) = (workplace / "runs" / "tiny").iterdir()
    assert main(["fit", "--ckpt", str(folder)]) == 0
    (resumed,) = (f for f in (workplace / "runs" / "tiny").iterdir() if f != folder)
    got = torch.load(resumed / "checkpoints" / "last.ckpt", weights_only=True)
    expected = torch.load(trained.last, weights_only=True)
    assert got["global_step"] == expected["global_step"] == 14
    for name, weight in expected["state_dict"].items():
        assert torch.equal(got["state_dict"][name], weight), name


def test_signal_handler_is_given_back(workplace: Path, monkeypatch: pytest.MonkeyPatch):
    before = signal.getsignal(signal.SIGINT)
    press_ctrl_c(monkeypatch, "training_step", 1)
    assert main(["fit", "-c", "tiny.yaml"]) == 130
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--model.lr", "0.5"], "model.lr is 0.01 in the checkpoint, not 0.5"),
        (["--seed_everything", "7"], "seed_everything is 42 in the checkpoint, not 7"),
        (["--data.batch_size", "32"], "data.batch_size is 64 in the checkpoint, not 32"),
        (["--model.network.dim", "24"], "model.network.dim is 12 in the checkpoint, not 24"),
    ],
)
def test_settings_that_a_resumed_run_cannot_honour(
    trained: Run,
    workplace: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    expected: str,
):
    assert main(["fit", "--ckpt", str(trained.last), *arguments]) == 2
    captured = capsys.readouterr()
    assert expected in captured.err
    assert captured.err.count("\n") == 1
    assert not (workplace / "runs").exists()


def test_run_can_be_prolonged_and_take_another_adjacency(trained: Run, workplace: Path):
    arguments = ["fit", "--ckpt", str(trained.last), "--trainer.max_epochs", "3"]
    assert main([*arguments, "--adjacency", "SelfLoops"]) == 0
    (folder,) = (workplace / "runs" / "tiny").iterdir()
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 21


def test_finished_run_has_nothing_left(
    trained: Run, workplace: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["fit", "--ckpt", str(trained.last)]) == 2
    assert "is finished: raise --trainer.max_epochs" in capsys.readouterr().err


def test_foreign_checkpoint(workplace: Path, capsys: pytest.CaptureFixture[str]):
    torch.save({"state_dict": {}}, "foreign.ckpt")
    assert main(["test", "--ckpt", "foreign.ckpt"]) == 2
    assert "contains no settings" in capsys.readouterr().err
