"""Wrong usage: one short message with the nearest right name on stderr, exit code 2."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import graphformer as gf
from graphformer.cli import main
from graphformer.cli.config.parser import Parser
from graphformer.cli.errors import UsageError, plain_errors
from graphformer.tasks import Task

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
        ([*FIT, "--model.num_classes", "1"], "num_classes must be 2 or more, got 1"),
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


def test_what_the_library_refuses_is_one_line_and_its_own_mistakes_are_not():
    with pytest.raises(UsageError, match="edge_index: got target 9"), plain_errors():
        gf.from_edge_index(torch.tensor([[0], [9]]), 3)
    with pytest.raises(TypeError, match="'int' object is not iterable"), plain_errors():
        gf.window(3, 1).to_networkx(nodes={"x": 5})  # type: ignore[dict-item]


def test_a_null_deep_within_settings():
    parser = Parser()
    parser.add_subclass_arguments(Task, "model", fail_untyped=False)
    network = "--model.network"
    parsed = parser.parse_args(
        ["--model", "Classification", network, "graphformer.models.gps", f"{network}.pool", "sum"]
    )
    assert parsed.model.init_args.network.init_args.pool == "sum"
    parsed = parser.parse_args([f"{network}.pool", "null"], namespace=parsed)
    assert parsed.model.init_args.network.init_args.pool is None


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
    assert "expected a name that ends in .pt or .csv" in text


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = [sys.executable, "-c", "import sys, graphformer.cli as c; sys.exit(c.main(['-h']))"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as process:  # type: ignore[call-overload]
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141
