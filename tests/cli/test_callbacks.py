"""Runs that are interrupted and resumed, and what they store."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch
from helpers.runs import Run, fit_language_model

from graphformer.cli import main
from graphformer.cli.checkpoints import restore_task, restore_text_tokenizer
from graphformer.data import load_tokenizer
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


def test_a_run_keeps_its_vocabulary_beside_the_checkpoint(text_folder: Path) -> None:
    run = fit_language_model("--data.vocabulary", "bpe", "--data.vocabulary_size", "280")
    checkpoint = run / "checkpoints" / "last.ckpt"
    beside, within = load_tokenizer(run / "tokenizer.json"), restore_text_tokenizer(checkpoint)
    assert beside.backend.to_str() == within.backend.to_str()
    task = restore_task(checkpoint)
    weights = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert all(torch.equal(w, weights[name]) for name, w in task.state_dict().items())
    (text_folder / "text.txt").write_text("zebra " * 300)  # another text, the same vocabulary
    assert main(["test", "--ckpt", str(run)]) == 0
    again = fit_language_model("--data.vocabulary", str(run), "--model.pretrained", str(run))
    assert (again / "tokenizer.json").read_text() == (run / "tokenizer.json").read_text()
