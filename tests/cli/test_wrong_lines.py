"""Wrong command lines: one sentence, exit code 2, and nothing is left behind."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any, NoReturn

import lightning.pytorch as pl
import pytest
import torch
from helpers.runs import EXPERIMENT
from helpers.wrong_lines import WRONG_LINES, WRONG_OPTIONS

from graphformer.cli import main
from graphformer.cli.callbacks import CONFIG_KEY

BOMB = "a0: &a0 [x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30)
)
FILES = {
    "broken.yaml": "trainer: [1, {",
    "tag.yaml": "trainer: !!python/object/apply:os.getcwd []",
    "bomb.yaml": BOMB,
    "deep.yaml": "a: " + "[" * 3000 + "]" * 3000,
    "list.yaml": "[1, 2]",
}
STORED = "seed_everything: 1\nmodel: {class_path: Classification}\ndata: "


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an experiment, and files that are none."""
    folder = tmp_path_factory.mktemp("wrong")
    (folder / "tiny.yaml").write_text(EXPERIMENT)
    for name, text in FILES.items():
        (folder / name).write_text(text)
    (folder / "binary.yaml").write_bytes(bytes(range(256)))
    (folder / "empty.ckpt").write_bytes(b"")
    torch.save(torch.ones(2), folder / "tensor.ckpt")
    torch.save([1, 2], folder / "list.ckpt")
    for name, text in {
        "tag": f"{STORED}!!python/object/apply:os.getcwd []",
        "foreign": f"{STORED}{{class_path: antigravity.Data}}",
        "bomb": BOMB,
    }.items():
        torch.save({"state_dict": {}, CONFIG_KEY: text}, folder / f"{name}.ckpt")
    return folder


class Trained(Exception):
    """Training has started."""


def refuse(*args: object, **kwargs: object) -> NoReturn:
    raise Trained


def check(arguments: list[str], home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(home.rglob("*"))
    capsys.readouterr()
    assert main(arguments) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("graphformer: ")
    assert len(message) < 600
    assert "Traceback" not in message
    assert sorted(home.rglob("*")) == before


def sampled(lines: list[str]) -> list[Any]:
    """The lines as parameters: every sixth, and the others marked slow."""
    slow = pytest.mark.slow
    return [pytest.param(line, marks=[slow] if i % 6 else []) for i, line in enumerate(lines)]


@pytest.mark.parametrize("options", sampled(WRONG_OPTIONS))
@pytest.mark.filterwarnings("ignore")
def test_a_wrong_option_is_refused_before_training(
    home: Path, options: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(home)
    monkeypatch.setattr(pl.loops._TrainingEpochLoop, "advance", refuse)
    check(["fit", "-c", "tiny.yaml", *shlex.split(options)], home, capsys)


@pytest.mark.parametrize("line", sampled(WRONG_LINES))
def test_a_wrong_line_is_refused(
    home: Path, line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(home)
    check(shlex.split(line), home, capsys)
