"""Options of commands: ranges, and errors in one form."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphformer.cli.config.command_parser import (
    CommandParser,
    number,
    output_file,
    whole_number,
)
from graphformer.cli.errors import UsageError


def parser() -> CommandParser:
    parser = CommandParser("weigh", "Weigh something.")
    parser.add_argument("--count", type=whole_number(1), default=3, help="how many")
    parser.add_argument("--share", type=number(0, 1, low_included=False))
    parser.add_argument("--strength", type=number(0.5))
    parser.add_argument("--out", type=output_file(".csv", ".txt"))
    return parser


def test_values_in_range():
    values = parser().parse_args(["--count", "7", "--share", "1", "--strength", "0.5"])
    assert (values.count, values.share, values.strength) == (7, 1.0, 0.5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--count", "0"], "weigh: --count: got 0, expected an integer of 1 or more"),
        (["--count", "2.5"], "weigh: --count: got 2.5, expected an integer of 1 or more"),
        (["--share", "0"], "weigh: --share: got 0, expected a number above 0 and at most 1"),
        (["--share", "nan"], "weigh: --share: got nan, expected a number above 0 and at most 1"),
        (["--strength", "0.4"], "weigh: --strength: got 0.4, expected a number of at least 0.5"),
        (["--strength", "inf"], "weigh: --strength: got inf, expected a number of at least 0.5"),
        (["--strength", "x"], "weigh: --strength: got x, expected a number of at least 0.5"),
        (["--out", "a.png"], "weigh: --out: got a.png, expected a name that ends in .csv or .txt"),
        (["--out", "no/a.csv"], "weigh: --out: got no/a.csv, but there is no folder no; make it"),
        (
            ["--out", "some.csv"],
            "weigh: --out: got some.csv, a folder, expected the name of a file",
        ),
        (["--size", "3"], "weigh: unrecognized arguments: --size 3"),
    ],
)
def test_wrong_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
):
    monkeypatch.chdir(tmp_path)
    Path("some.csv").mkdir()
    with pytest.raises(UsageError) as error:
        parser().parse_args(words)
    assert str(error.value).startswith(message)


def test_help_names_the_command_and_the_defaults(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        parser().parse_args(["--help"])
    text = capsys.readouterr().out
    assert "usage: graphformer weigh" in text
    assert "how many (default: 3)" in text
