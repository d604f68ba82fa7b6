"""Options of commands: ranges, and errors in one form."""

from __future__ import annotations

import pytest

from graphformer.cli.config.command_parser import CommandParser, number, whole_number
from graphformer.cli.errors import UsageError


def parser() -> CommandParser:
    parser = CommandParser("weigh", "Weigh something.")
    parser.add_argument("--count", type=whole_number(1), default=3, help="how many")
    parser.add_argument("--share", type=number(0, 1, low_included=False))
    parser.add_argument("--strength", type=number(0.5))
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
        (["--size", "3"], "weigh: unrecognized arguments: --size 3"),
    ],
)
def test_wrong_values(words: list[str], message: str):
    with pytest.raises(UsageError) as error:
        parser().parse_args(words)
    assert str(error.value) == message


def test_help_names_the_command_and_the_defaults(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        parser().parse_args(["--help"])
    text = capsys.readouterr().out
    assert "usage: graphformer weigh" in text
    assert "how many (default: 3)" in text
