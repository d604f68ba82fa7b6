"""Patterns with edges that were learned, and patterns side by side."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import graphformer as gf
from graphformer.patterns import (
    Causal,
    Complete,
    FixedEdges,
    GlobalNodes,
    Learned,
    Offsets,
    PerHead,
    PerLayer,
    Random,
    Union,
    Window,
    load_pattern,
    save_pattern,
)


def packed(*lengths: int) -> SimpleNamespace:
    return SimpleNamespace(lengths=lengths, num_nodes=sum(lengths))


def test_offsets_by_their_definition():
    offsets, sources, targets = (-3, 1), (0, -2), (-1, 6)
    mask = Offsets(offsets, sources, targets)(packed(7, 2, 1)).to_mask()
    expected = torch.zeros(10, 10, dtype=torch.bool)
    for start, size in ((0, 7), (7, 2), (9, 1)):
        for i in range(size):
            for j in range(size):
                present = j - i in offsets or j in sources or j - size in sources
                present |= i in targets or i - size in targets
                expected[start + i, start + j] = present
    assert torch.equal(mask, expected)


def test_offsets_that_are_a_window_make_the_rule():
    assert Offsets((1, 0, -1))(packed(5, 3)) == gf.window((5, 3), 1)
    assert Offsets((-2, -1, 0))(packed(5, 3)) == gf.window((5, 3), 2, causal=True)
    assert Offsets((0,))(packed(5, 3)) == gf.window((5, 3), 0)
    assert Offsets((-2, 0))(packed(5)).num_edges == 8


def test_fixed_edges():
    pattern = FixedEdges(((2, 0, 2), (), (1,)))
    assert pattern.sources == ((0, 2), (), (1,))
    edges = pattern(packed(3, 3)).edge_index
    assert edges.T.tolist() == [[0, 0], [2, 0], [1, 2], [3, 3], [5, 3], [4, 5]]
    with pytest.raises(ValueError, match="got a sample of 4 nodes, expected 3"):
        pattern(packed(3, 4))
    with pytest.raises(ValueError, match="got node 3, expected numbers from 0 to 2"):
        FixedEdges(((3,), (), ()))


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


def test_a_stored_pattern_serves_as_itself(tmp_path: Path):
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
    with pytest.raises(ValueError, match=r"a.json' holds no pattern"):
        load_pattern(tmp_path / "a.json")
    with pytest.raises(FileNotFoundError, match=r"b.json"):
        load_pattern(tmp_path / "b.json")


def test_several_combine_one_by_one():
    layers = PerLayer((Causal(), PerHead((Window(1), Window(2)))))
    more = GlobalNodes()
    assert layers | more == PerLayer(
        (Causal() | more, PerHead((Window(1) | more, Window(2) | more)))
    )
    assert more & layers == PerLayer(
        (more & Causal(), PerHead((more & Window(1), more & Window(2))))
    )
    heads = PerHead((Complete(), Random()))
    assert heads | PerLayer((more, Causal())) == PerLayer((heads | more, heads | Causal()))
    with pytest.raises(ValueError, match="got groups of 2 and 1"):
        layers | PerLayer((more,))
    with pytest.raises(ValueError, match="got a PerLayer, expected patterns that make one"):
        Union((more, layers))


def test_parts_are_made_once_for_a_layout():
    layers = PerLayer(tuple(PerHead((Window(r), Offsets((r,)))) for r in range(23)))
    first, second = layers(packed(7, 3)), layers(packed(7, 3))
    assert all(one is other for one, other in zip(first, second, strict=True))
    assert first[5].heads[:, 0].sum() == gf.window((7, 3), 5).num_edges
