"""Patterns of learned edges, by offset and by position."""

from __future__ import annotations

import pytest
import torch

import graphformer as gf
from graphformer.patterns import FixedEdges, Offsets
from graphformer.patterns.fields import Layout


def packed(*lengths: int) -> Layout:
    return Layout(lengths)


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


def test_offsets_of_a_window_give_the_implicit_window():
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
