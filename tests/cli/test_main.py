"""Exit codes, usage and unknown commands."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from graphformer.cli import COMMANDS, main


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = [sys.executable, "-c", "import sys, graphformer.cli as c; sys.exit(c.main(['-h']))"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as process:  # type: ignore[call-overload]
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


def test_unknown_command(capsys: pytest.CaptureFixture[str]):
    assert main(["fti"]) == 2
    assert capsys.readouterr().err == "graphformer: unknown command 'fti': did you mean 'fit'?\n"


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
def test_usage_names_every_command(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    for command in COMMANDS:
        assert f"\n  {command} " in shown


def test_ctrl_c_is_code_130(monkeypatch: pytest.MonkeyPatch):
    def interrupted(argv: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("graphformer.cli.commands.list.main", interrupted)
    assert main(["list"]) == 130


def test_the_package_is_a_command() -> None:
    command = [sys.executable, "-m", "graphformer", "--version"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert shown.startswith("graphformer ")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EISDIR])
def test_errors_of_the_system_are_one_sentence(
    number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def failing(argv: list[str]) -> int:
        raise OSError(number, os.strerror(number), "runs/a")

    monkeypatch.setattr("graphformer.cli.commands.list.main", failing)
    assert main(["list"]) == 2
    assert capsys.readouterr().err == f"graphformer: runs/a: {os.strerror(number)}\n"


def test_an_os_error_without_a_number_is_a_bug(monkeypatch: pytest.MonkeyPatch):
    def failing(argv: list[str]) -> int:
        raise OSError("unexpected")

    monkeypatch.setattr("graphformer.cli.commands.list.main", failing)
    with pytest.raises(OSError, match="unexpected"):
        main(["list"])


def test_help_names_the_short_forms(capsys: pytest.CaptureFixture[str]):
    assert main(["fit", "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f in shown for f in ("--folds", "--seeds", "--jobs", "--adjacency", "--trust"))


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_help_fits_a_screen(command: str, capsys: pytest.CaptureFixture[str]):
    assert main([command, "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 100
    own = [i for i, line in enumerate(lines) if "--adjacency" in line]
    assert own[0] < next(i for i, line in enumerate(lines) if "--trainer" in line)


def test_help_all_lists_the_options_of_the_trainer(capsys: pytest.CaptureFixture[str]):
    assert main(["fit", "--help", "all"]) == 0
    assert "--trainer.gradient_clip_val" in capsys.readouterr().out
