"""Position encodings against their formulas."""

from __future__ import annotations

import math

import pytest
import torch

from graphformer.nn import Positions, sinusoidal


def test_sinusoidal_is_its_formula():
    dim, pos = 6, [0, 1, 7, 1009]
    expected = [
        [
            (math.sin if c % 2 == 0 else math.cos)(p / 10_000 ** ((c - c % 2) / dim))
            for c in range(dim)
        ]
        for p in pos
    ]
    torch.testing.assert_close(sinusoidal(torch.tensor(pos), dim), torch.tensor(expected))


@pytest.mark.parametrize("shift", [1, 5, -3])
def test_a_shift_of_positions_is_a_linear_map(shift):
    dim = 10
    positions = torch.arange(101)
    encoded, shifted = sinusoidal(positions, dim), sinusoidal(positions + shift, dim)
    linear = torch.zeros(dim, dim)  # the same for all positions: each pair is rotated
    for i in range(0, dim, 2):
        angle = shift * 10_000 ** (-i / dim)
        sin, cos = math.sin(angle), math.cos(angle)
        linear[i : i + 2, i : i + 2] = torch.tensor([[cos, -sin], [sin, cos]])
    torch.testing.assert_close(encoded @ linear, shifted, rtol=1e-5, atol=1e-5)


def test_positions_on_a_grid():
    fixed = Positions(12, axes=2, learned=False)
    pos = torch.tensor([[0, 3], [2, 3], [2, 0]])
    out = fixed(pos)
    assert torch.equal(out[:, :6], sinusoidal(pos[:, 0], 6))
    assert torch.equal(out[:, 6:], sinusoidal(pos[:, 1], 6))
    learned = Positions(5, 7, axes=2)
    rows, columns = (table.weight for table in learned.tables)
    assert torch.equal(learned(pos), rows[pos[:, 0]] + columns[pos[:, 1]])


def test_learned_positions_in_a_sequence():
    positions = Positions(5, 7)
    pos = torch.tensor([6, 0, 6])
    assert torch.equal(positions(pos), positions.tables[0].weight[pos])


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: sinusoidal(torch.arange(3), 5), "dim: got 5, expected an even number"),
        (lambda: Positions(5, learned=False), "dim: got 5, expected a multiple of 2"),
        (lambda: Positions(6, axes=2, learned=False), "dim: got 6, expected a multiple of 4"),
        (lambda: Positions(5), "max_length: got 0, expected at least 1"),
        (
            lambda: Positions(5, 7)(torch.zeros(3, 2).long()),
            r"got shape \(3, 2\), expected 1 axes",
        ),
        (lambda: Positions(5, 7, axes=2)(torch.zeros(3).long()), "expected 2 axes"),
        (lambda: Positions(5, 7)(torch.tensor([3, 7])), "positions: got 7, expected at most 6"),
    ],
)
def test_errors_name_the_argument(call, match):
    with pytest.raises(ValueError, match=match):
        call()


def test_an_offset_skips_the_first_rows():
    positions = Positions(5, 7, offset=2)
    (table,) = positions.tables
    assert table.weight.shape == (9, 5)
    pos = torch.tensor([6, 0])
    assert torch.equal(positions(pos), table.weight[pos + 2])


def test_another_base_and_no_nodes():
    pos = torch.tensor([3, 11])
    angle = pos.double() * 500.0 ** (-2 / 4)
    torch.testing.assert_close(sinusoidal(pos, 4, base=500.0)[:, 2], angle.sin().float())
    for module in (Positions(6, 7), Positions(6, learned=False)):
        assert module(torch.empty(0, dtype=torch.int64)).shape == (0, 6)


def test_ranges_are_not_checked_while_compiling():
    """The largest position would be a read from the device in the middle of a graph."""
    module = torch.compile(Positions(5, 7), fullgraph=True, backend="eager")
    assert torch.equal(module(torch.tensor([6, 0]))[1], module.tables[0].weight[0])
