"""Class tokens and registers in adjacencies."""

from __future__ import annotations

import pytest
import torch

import graphformer as gf
from graphformer.models.vision.tokens import connect_tokens


def test_a_class_token_joins_any_adjacency_as_a_global_node():
    sizes = (6, 1, 0, 3)
    edges = gf.grid([(2, 3), (1, 1), (0, 5), (3, 1)], radius=1)
    joined = connect_tokens(edges, sizes, 2).to_mask()
    starts = [0, 8, 11, 13]
    expected = torch.zeros(18, 18, dtype=torch.bool)
    first = 0
    for start, size in zip(starts, sizes, strict=True):
        own = slice(start, start + size + 2)
        patches = slice(start + 2, start + size + 2)
        expected[start : start + 2, own] = True
        expected[own, start : start + 2] = True
        before = slice(first, first + size)
        expected[patches, patches] = edges.to_mask()[before, before]
        first += size
    assert torch.equal(joined, expected)
    complete = connect_tokens(gf.complete(sizes), sizes, 2)
    assert isinstance(complete, gf.adjacency.Complete)
    assert complete.lengths == (8, 3, 2, 5)
    assert connect_tokens(complete, sizes, 2) is complete
    with pytest.raises(
        ValueError, match="got 11 x 11, expected the 10 patches, or these and the 8 tokens"
    ):
        connect_tokens(gf.complete(11), sizes, 2)


def test_each_head_keeps_its_own_edges_beside_the_tokens():
    shapes, sizes = [(2, 3), (1, 4)], (6, 4)
    near, loops = gf.grid(shapes), gf.window(sizes, 0)
    joined = connect_tokens(gf.adjacency.HeadEdges.of(near, loops), sizes, 1)
    expected = [connect_tokens(part, sizes, 1).to_mask() for part in (near, loops)]
    found = [torch.zeros(12, 12, dtype=torch.bool) for _ in range(2)]
    source, target = joined.edge_index
    for mask, own in zip(found, joined.heads.T, strict=True):
        mask[target[own], source[own]] = True
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
