"""Patterns written to JSON files and read again."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

import graphformer as gf
from graphformer.patterns import (
    Causal,
    Complete,
    FixedEdges,
    GlobalNodes,
    Learned,
    Offsets,
    Pattern,
    PerHead,
    PerLayer,
    Random,
    Window,
    load_pattern,
    save_pattern,
)
from graphformer.patterns.fields import Layout


def packed(*lengths: int) -> Layout:
    return Layout(lengths)


STORED = [
    Window(5, causal=True),
    Complete() & (Random(3) | GlobalNodes(2)),
    Offsets((-1, 4), (0,), (-1,)),
    FixedEdges(((1,), (0, 1))),
    PerLayer((Causal(), PerHead((Window(1), Offsets((0,)))))),
]


@pytest.mark.parametrize("pattern", STORED, ids=lambda pattern: type(pattern).__name__)
def test_patterns_in_files(pattern, tmp_path: Path):
    path = tmp_path / "pattern.json"
    save_pattern(pattern, path)
    assert load_pattern(path) == pattern
    assert Learned(str(path)).pattern == pattern


def test_a_learned_pattern_is_the_stored_one(tmp_path: Path):
    save_pattern(Window(1), tmp_path / "a.json")
    learned = Learned(str(tmp_path / "a.json"))
    assert learned(packed(4)) == gf.window(4, 1)
    assert learned | Causal() == Window(1) | Causal()


@pytest.mark.parametrize(
    "text",
    [
        "nothing",
        "[]",
        '{"class_path": "Windo"}',
        json.dumps({"class_path": "Window", "init_args": {"r": 1}}),
    ],
)
def test_files_without_a_pattern(text: str, tmp_path: Path):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=r"a.json', expected a file with a pattern"):
        load_pattern(tmp_path / "a.json")
    with pytest.raises(FileNotFoundError, match=r"b.json"):
        load_pattern(tmp_path / "b.json")


def test_a_changed_file_is_read_again(tmp_path: Path):
    path = tmp_path / "a.json"
    save_pattern(Window(1), path)
    learned = Learned(str(path))
    assert learned.pattern is learned.pattern
    save_pattern(Window(2), path)
    os.utime(path, ns=(1, 1))
    assert learned.pattern == Window(2)
    assert learned & Causal() == Window(2) & Causal()


def test_class_paths_of_other_versions_are_read_by_name(tmp_path: Path):
    path = tmp_path / "a.json"
    path.write_text(
        json.dumps({"class_path": "graphformer.old.Window", "init_args": {"radius": 3}})
    )
    assert load_pattern(path) == Window(3)
    path.write_text(json.dumps({"class_path": "Complete"}))
    assert load_pattern(path) == Complete()


@dataclass(frozen=True)
class Own(Pattern):
    """A pattern that the package does not know."""


def test_patterns_of_other_packages_are_not_written(tmp_path: Path):
    for pattern in (Own(), Causal() | Own()):
        with pytest.raises(TypeError, match=r"pattern: got Own, expected one of graphformer"):
            save_pattern(pattern, tmp_path / "a.json")
    assert not (tmp_path / "a.json").exists()
