"""One line for each wrong setting, with the nearest right name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from graphformer.cli import main

FIT = ["fit", "-c", "tiny.yaml"]


def message(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(list(arguments)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert len(captured.err) < 400
    return captured.err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["fti"], "unknown command 'fti': did you mean 'fit'?"),
        (["list", "task"], "did you mean 'tasks'?"),
        (["fit"], "this command needs data, model: give -c experiments/X.yaml or --ckpt PATH"),
        ([*FIT, "--model.lrr", "1"], "Classification has no setting 'lrr': did you mean 'lr'?"),
        ([*FIT, "--model.adjacency", "Windwo"], "model.adjacency: unknown name 'Windwo'"),
        ([*FIT, "--model.adjacency", "Windwo"], "did you mean 'Window'?"),
        ([*FIT, "--model.network", "vti"], "did you mean 'vit'?"),
        ([*FIT, "--model.network", "graphformer.models.vti"], "did you mean 'vit'?"),
        ([*FIT, "--data", "Digit"], "did you mean 'Digits'?"),
        ([*FIT, "--model", "Clasification"], "did you mean 'Classification'?"),
        ([*FIT, "--model.lr", "abc"], "model.lr: expected float, got 'abc'"),
        ([*FIT, "--model.schedule", "cosin"], "unknown choice 'cosin': did you mean 'cosine'?"),
        ([*FIT, "--model.network.dimm", "7"], "vit has no setting 'dimm': did you mean 'dim'?"),
        ([*FIT, "--trainer.max_epoch", "7"], "did you mean 'trainer.max_epochs'?"),
        ([*FIT, "--trainer.max_epochs", "x"], "trainer.max_epochs: expected int, got 'x'"),
        ([*FIT, "--model.adjacency", "Window"], "model.adjacency (Window) needs radius"),
        ([*FIT, "--data.patch_size", "3"], "patch_size: got 3, expected a divisor"),
        (
            ["fit", "-c", "tini.yaml"],
            "no configuration file 'tini.yaml': did you mean 'tiny.yaml'?",
        ),
        (
            [*FIT, "--data", "ImageFolder", "--data.path", "pets", "--data.size", "16"],
            "data.size: expected tuple, got '16'",
        ),
        (["fit", "-c"], "-c needs a value"),
        ([*FIT, "--model.num_classes", "1"], "num_classes: got 1, expected 2 or more"),
        ([*FIT, "--ckpt", "last"], "there is no checkpoint 'last', and none below runs/"),
        (["test", "--ckpt", "no/such.ckpt"], "there is no checkpoint 'no/such.ckpt'"),
        (["test", "--ckpt", "tiny.yaml"], "tiny.yaml is not a readable checkpoint"),
    ],
)
def test_message(
    workplace: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str
):
    assert expected in message(capsys, *arguments)
    assert not (workplace / "runs").exists()


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("lr: 1.0e-2", "lrr: 1.0e-2", "'lr'"),
        ("trainer:", "trainr:", "'trainer.accelerator'"),
        ("max_epochs", "max_epoch", "'trainer.max_epochs'"),
        ("adjacency: Complete", "adjacency: Compleet", "'Complete'"),
        ("dim: 12", "dmi: 12", "'dim'"),
        ("dim: 12", "dim: twelve", "model.network.dim: expected int, got 'twelve'"),
    ],
)
def test_mistakes_in_a_file(
    workplace: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, expected: str
):
    file = workplace / "tiny.yaml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    assert expected in message(capsys, *FIT)


def test_broken_yaml(workplace: Path, capsys: pytest.CaptureFixture[str]):
    (workplace / "tiny.yaml").write_text("model: [1\n")
    message(capsys, *FIT)


def test_data_that_does_not_know_a_size(workplace: Path, capsys: pytest.CaptureFixture[str]):
    text = message(capsys, *FIT, "--model.network", "language_model", "--model.network.depth", "1")
    assert "language_model needs vocab_size, which Digits does not define" in text


def test_missing_data_file(
    workplace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("GRAPHFORMER_DATA", os.fspath(workplace / "nowhere"))
    settings = ["--model.network", "language_model", "--model", "LanguageModeling"]
    text = message(
        capsys, "fit", *settings, "--data", "TextFile", "--data.path", "no_such_text.txt"
    )
    assert "no_such_text.txt" in text


def test_bad_output_is_said_before_anything_is_done(
    workplace: Path, capsys: pytest.CaptureFixture[str], trained: object
):
    text = message(capsys, "predict", "--ckpt", str(trained.last), "--output", "x.json")  # type: ignore[attr-defined]
    assert "expected a name that ends in .csv, .parquet, .jsonl, .pt" in text
