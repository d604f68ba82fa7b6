"""Grids of any number of axes, against the definition cell by cell."""

from __future__ import annotations

from itertools import product

import pytest
import torch

import graphformer as gf
from graphformer.adjacency import CSR


def by_definition(
    shapes: list[tuple[int, ...]], radius: tuple[int, ...], causal: bool
) -> torch.Tensor:
    cells = [(s, *c) for s, shape in enumerate(shapes) for c in product(*map(range, shape))]
    mask = torch.zeros(len(cells), len(cells), dtype=torch.bool)
    for i, (s, *target) in enumerate(cells):
        for j, (t, *source) in enumerate(cells):
            near = all(abs(a - b) <= r for a, b, r in zip(target, source, radius, strict=True))
            mask[i, j] = s == t and near and not (causal and source[0] > target[0])
    return mask


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    ("shapes", "radius"),
    [
        ([(2, 3, 5)], (1, 1, 1)),
        ([(3, 2, 2), (1, 5, 2), (3, 2, 2)], (2, 0, 1)),
        ([(3, 5), (2, 7)], (0, 7)),  # rows
        ([(3, 5)], (5, 0)),  # columns
        ([(7,)], (2,)),
        ([(2, 0, 3), (2, 3, 2)], (1, 1, 1)),
    ],
)
def test_grids_are_their_definition(
    shapes: list[tuple[int, ...]], radius: tuple[int, ...], causal: bool
) -> None:
    adjacency = gf.grid(shapes, radius, causal)
    assert isinstance(adjacency, CSR)
    expected = by_definition(shapes, radius, causal)
    assert torch.equal(adjacency.to_mask(), expected)
    edges = expected.nonzero().flip(1).T  # by target, then source
    assert torch.equal(adjacency.edge_index, edges)


def test_one_radius_of_three_axes() -> None:
    mask = gf.grid([(2, 3, 5)], (1, 1, 1)).to_mask()
    assert torch.equal(gf.grid((2, 3, 5), 1).to_mask(), mask)
    assert torch.equal(gf.grid(torch.tensor([[2, 3, 5]]), 1).to_mask(), mask)
    # By hand: the boxes of an axis of n cells have 3n - 2 cells together.
    assert gf.grid((5, 7, 11), 1).num_edges == (3 * 5 - 2) * (3 * 7 - 2) * (3 * 11 - 2)


def test_a_large_radius_is_the_complete_graph() -> None:
    assert torch.equal(gf.grid((2, 3, 5), 2**40).to_mask(), gf.complete(30).to_mask())


def test_pairs_with_one_radius_stay_implicit() -> None:
    assert not isinstance(gf.grid((3, 5), 1), CSR)
    assert torch.equal(gf.grid((3, 5), (1, 1)).to_mask(), gf.grid((3, 5), 1).to_mask())


def test_attention_over_a_video_stays_in_its_clip() -> None:
    shapes = [(2, 3, 5), (3, 2, 2)]
    q, k, v = torch.randn(3, 42, 2, 7).unbind(0)
    adjacency = gf.grid(shapes, 1)
    out = gf.attention(q, k, v, adjacency)
    torch.testing.assert_close(out, gf.attention(q, k, v, adjacency, backend="reference"))
    k[30:], v[30:] = torch.randn(2, 12, 2, 7)
    assert torch.equal(gf.attention(q, k, v, adjacency)[:30], out[:30])
