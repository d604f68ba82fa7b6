"""Runs that are interrupted and resumed, and what they store."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch
from helpers.runs import Run, fit_language_model
from lightning.pytorch.callbacks import (
    Callback,
    EarlyStopping,
    LearningRateMonitor,
    ModelCheckpoint,
)  # fmt: skip

from graphformer.cli import main
from graphformer.cli.callbacks import last_of_each
from graphformer.cli.checkpoints import restore_task, restore_text_tokenizer
from graphformer.data import load_tokenizer
from graphformer.tasks import Classification
from graphformer.tasks.metrics import Mean


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


def send(number: int, monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    """Send a signal during the given training step, counted from 1."""
    original, calls = Classification.training_step, 0

    def signalled(self, batch, batch_idx):
        nonlocal calls
        calls += 1
        if calls == call:
            os.kill(os.getpid(), number)
        return original(self, batch, batch_idx)

    monkeypatch.setattr(Classification, "training_step", signalled)


def last_of(folder: Path) -> dict:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


def test_sigterm_stops_with_a_checkpoint_and_code_143(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
):
    before = signal.getsignal(signal.SIGTERM)
    send(signal.SIGTERM, monkeypatch, 3)
    assert main(["fit", "-c", "tiny.yaml"]) == 143
    assert signal.getsignal(signal.SIGTERM) is before
    (folder,) = (workplace / "runs" / "tiny").iterdir()
    assert last_of(folder)["global_step"] == 3


@pytest.mark.parametrize("call", [2, 7])
def test_a_partial_gradient_is_finished_before_the_stop(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, call: int
):
    accumulate = ["--trainer.accumulate_grad_batches", "3"]
    assert main(["fit", "-c", "tiny.yaml", *accumulate]) == 0
    (whole,) = (workplace / "runs" / "tiny").iterdir()
    with monkeypatch.context() as patch:
        send(signal.SIGINT, patch, call)
        assert main(["fit", "-c", "tiny.yaml", *accumulate]) == 130
    (stopped,) = set((workplace / "runs" / "tiny").iterdir()) - {whole}
    assert last_of(stopped)["global_step"] == (1 if call == 2 else 3)
    assert main(["fit", "--ckpt", str(stopped)]) == 0
    (resumed,) = set((workplace / "runs" / "tiny").iterdir()) - {whole, stopped}
    expected, got = last_of(whole)["state_dict"], last_of(resumed)["state_dict"]
    assert all(torch.equal(got[name], expected[name]) for name in expected)


def test_last_is_the_last_state_after_a_worse_validation(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
):
    values = iter([1.0, 2.0, 3.0])
    monkeypatch.setattr(Mean, "compute", lambda self: torch.tensor(next(values)))
    arguments = ["--trainer.max_epochs", "3", "--trainer.num_sanity_val_steps", "0"]
    assert main(["fit", "-c", "tiny.yaml", *arguments]) == 0
    (folder,) = (workplace / "runs" / "tiny").iterdir()
    assert last_of(folder)["global_step"] == 21
    best = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["global_step"] == 7


def test_last_is_written_beside_own_checkpoints_and_resumed_exactly(workplace: Path):
    """Early stopping counts on from its stored state, though nothing was measured since."""
    (workplace / "own.yaml").write_text(
        "trainer:\n  val_check_interval: 3\n  callbacks:\n"
        "  - {class_path: EarlyStopping, init_args: {monitor: val/loss, patience: 99}}\n"
    )
    files = ["-c", "tiny.yaml", "-c", "own.yaml", "--model.schedule", "constant"]
    assert main(["fit", *files]) == 0
    (whole,) = (workplace / "runs" / "tiny").iterdir()
    assert main(["fit", *files, "--trainer.max_epochs", "1"]) == 0
    (half,) = set((workplace / "runs" / "tiny").iterdir()) - {whole}
    assert last_of(half)["global_step"] == 7
    assert main(["fit", "--ckpt", str(half), "--trainer.max_epochs", "2"]) == 0
    (resumed,) = set((workplace / "runs" / "tiny").iterdir()) - {whole, half}
    expected, got = last_of(whole), last_of(resumed)
    names = expected["state_dict"]
    assert all(torch.equal(got["state_dict"][name], names[name]) for name in names)
    (key,) = (key for key in expected["callbacks"] if key.startswith("EarlyStopping"))
    assert got["callbacks"][key] == expected["callbacks"][key]


def test_another_learning_rate_on_request(trained: Run, workplace: Path, capsys, monkeypatch):
    resumed = ["fit", "--ckpt", str(trained.folder), "--trainer.max_epochs", "4"]
    resumed += ["--model.lr", "3e-3", "--model.schedule", "linear"]
    assert main(resumed) == 2
    assert "model.lr is 0.01 in the checkpoint, not 0.003" in capsys.readouterr().err
    rates = []
    original = Classification.training_step

    def watched(self, batch, batch_idx):
        rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])
        return original(self, batch, batch_idx)

    monkeypatch.setattr(Classification, "training_step", watched)
    assert main([*resumed, "--reset", "lr"]) == 0
    # Two steps of warm-up, then linear to 0 at step 28; the run goes on at step 14.
    expected = [3e-3 * (28 - step) / 26 for step in range(14, 28)]
    assert rates == pytest.approx(expected)
    assert main(["fit", "-c", "tiny.yaml", "--reset", "lr"]) == 2
    assert "--reset: got lr without fit --ckpt" in capsys.readouterr().err


class Own(EarlyStopping):
    """A class of its own."""


def test_a_callback_replaces_earlier_ones_of_its_class(capsys: pytest.CaptureFixture[str]):
    loss, accuracy = EarlyStopping("val/loss"), EarlyStopping("val/accuracy", mode="max")
    other, rates, own = Callback(), LearningRateMonitor(), Own("val/loss")
    best, again = ModelCheckpoint("a", "best"), ModelCheckpoint("a", "best", monitor="val/loss")
    elsewhere, last = ModelCheckpoint("b", "best"), ModelCheckpoint("a", "last")
    kept = [own, rates, last, elsewhere, other, again, accuracy]
    assert last_of_each([loss, best, *kept]) == kept
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition("{")[0] for line in lines] == [
        f"graphformer: trainer.callbacks: a later one replaces {name}"
        for name in ("EarlyStopping", "ModelCheckpoint")
    ]
    assert last_of_each(kept) == kept
    assert last_of_each([]) == []
    assert not capsys.readouterr().err


def test_the_command_line_replaces_early_stopping_of_a_file(
    workplace: Path, capsys: pytest.CaptureFixture[str]
):
    def stopping(sign: str, monitor: str) -> list[str]:
        options = ["--trainer.callbacks.monitor", monitor, "--trainer.callbacks.patience", "0"]
        return [f"--trainer.callbacks{sign}=EarlyStopping", *options]

    Path("stop.yaml").write_text(
        "trainer: {callbacks: [{class_path: EarlyStopping, init_args: {monitor: none}}]}"
    )
    arguments = ["fit", "-c", "tiny.yaml", "-c", "stop.yaml", "--trainer.max_epochs", "1"]
    assert main(arguments) == 2  # there is no such metric
    assert "none" in capsys.readouterr().err
    assert main([*arguments, *stopping("+", "val/accuracy")]) == 0
