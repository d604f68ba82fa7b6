"""Patterns written as one word."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphformer.cli.config.pattern_syntax import parse_pattern
from graphformer.cli.errors import UsageError
from graphformer.patterns import (
    Complete,
    GlobalNodes,
    Learned,
    Offsets,
    Random,
    Window,
    save_pattern,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Complete", Complete()),
        ("Window:radius=16", Window(16)),
        ("Window:radius=3,causal=true", Window(3, causal=True)),
        ("Window:radius=2+GlobalNodes:count=3", Window(2) | GlobalNodes(3)),
        ("Window:radius=2+GlobalNodes+Random:seed=5", Window(2) | GlobalNodes() | Random(seed=5)),
        ("Offsets:offsets=[-1,4],sources=[0]", Offsets((-1, 4), (0,))),
    ],
)
def test_spelling(text, expected):
    assert parse_pattern(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Windw:radius=1", "unknown pattern 'Windw': did you mean 'Window'?"),
        ("Window:radus=1", "Window has no setting 'radus=1': did you mean 'radius'?"),
        ("Window", "Window needs radius, as in Window:radius=..."),
        ("Window:radius=a", "radius: got 'a', expected int"),
        ("Window:radius=1,causal=1", "causal: got '1', expected bool"),
        ("Complete:radius=1", "Complete has no setting 'radius=1'"),
        ("Offsets:offsets=3", "offsets: got '3', expected a sequence such as"),
        ("GlobalNodes:count=0", "count: got 0, expected at least 1"),
        ("Complete+Learned:path=nowhere.json", "got 'nowhere.json', expected an existing"),
        ("PerHead", "unknown pattern 'PerHead'"),
    ],
)
def test_wrong_spelling(text, message):
    with pytest.raises(UsageError) as error:
        parse_pattern(text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_stored_pattern_is_spelled_by_its_file(tmp_path: Path):
    save_pattern(Window(5), tmp_path / "w.json")
    assert parse_pattern(f"Learned:path={tmp_path / 'w.json'}") == Window(5)
    assert parse_pattern(f"Learned:path={tmp_path / 'w.json'}+GlobalNodes") == (
        Learned(str(tmp_path / "w.json")) | GlobalNodes()
    )
