"""Exit codes, usage and unknown commands."""

from __future__ import annotations

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
