"""The settings that a sweep varies."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphformer.cli.errors import UsageError
from graphformer.cli.many_runs.search import Choice, Range, grid, parse_search, read_search


def test_lists_are_choices_and_scales_make_ranges(tmp_path: Path) -> None:
    text = "{model.lr: [1e-4, 1e-2, log], model.adjacency: [Complete, Causal], d: [2, 7, linear]}"
    expected = {
        "model.lr": Range(1e-4, 1e-2, log=True),
        "model.adjacency": Choice(("Complete", "Causal")),
        "d": Range(2, 7, log=False),
    }
    assert parse_search(read_search(text)) == expected
    (tmp_path / "search.yaml").write_text(text)
    assert parse_search(read_search(str(tmp_path / "search.yaml"))) == expected


def test_grid_has_all_combinations() -> None:
    points = grid(parse_search({"a": [2, 3], "b": [5, 7, 11]}))
    assert points == [{"a": a, "b": b} for a in (2, 3) for b in (5, 7, 11)]
    with pytest.raises(UsageError, match="--search a: got a range, expected values"):
        grid(parse_search({"a": [2, 3, "log"]}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing", "--search: got 'nothing', expected '{setting: [a, b]}' or a file"),
        ("{}", "expected a mapping of settings to lists"),
        ("{a: 3}", "--search a: got 3, expected a list of values"),
        ("{a: []}", "--search a: got [], expected a list"),
        ("{a: [[1]]}", "--search a: got [1], expected texts and numbers"),
        ("{a: [0, 1, log]}", "--search a: got [0, 1, 'log'], expected [low, high, log] with 0 <"),
        ("{a: [2, 1, linear]}", "expected [low, high, linear] with low < high"),
        ("{a: [1, log]}", "expected [low, high, log]"),
        ("{a: [", "--search is no YAML"),
    ],
)
def test_wrong_searches(text: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_search(read_search(text))
    assert message in str(error.value)
