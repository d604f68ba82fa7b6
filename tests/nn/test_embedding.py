"""Positions and embeddings."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch_geometric.data import Data

from graphformer.nn import Embedding, Positions, sinusoidal


def test_sinusoidal_is_its_formula():
    dim, places = 6, [0, 1, 7, 1009]
    expected = [
        [
            (math.sin if c % 2 == 0 else math.cos)(p / 10_000 ** ((c - c % 2) / dim))
            for c in range(dim)
        ]
        for p in places
    ]
    torch.testing.assert_close(sinusoidal(torch.tensor(places), dim), torch.tensor(expected))


@pytest.mark.parametrize("shift", [1, 5, -3])
def test_a_shift_of_places_is_a_linear_map(shift):
    dim = 10
    places = torch.arange(101)
    here, there = sinusoidal(places, dim), sinusoidal(places + shift, dim)
    linear = torch.zeros(dim, dim)  # the same for all places: each pair is rotated
    for i in range(0, dim, 2):
        angle = shift * 10_000 ** (-i / dim)
        sin, cos = math.sin(angle), math.cos(angle)
        linear[i : i + 2, i : i + 2] = torch.tensor([[cos, -sin], [sin, cos]])
    torch.testing.assert_close(here @ linear, there, rtol=1e-5, atol=1e-5)


def test_places_on_a_grid():
    fixed = Positions(12, axes=2, learned=False)
    places = torch.tensor([[0, 3], [2, 3], [2, 0]])
    out = fixed(places)
    assert torch.equal(out[:, :6], sinusoidal(places[:, 0], 6))
    assert torch.equal(out[:, 6:], sinusoidal(places[:, 1], 6))
    learned = Positions(5, 7, axes=2)
    rows, columns = (table.weight for table in learned.tables)
    assert torch.equal(learned(places), rows[places[:, 0]] + columns[places[:, 1]])


def test_learned_places_in_a_sequence():
    positions = Positions(5, 7)
    places = torch.tensor([6, 0, 6])
    assert torch.equal(positions(places), positions.tables[0].weight[places])


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: sinusoidal(torch.arange(3), 5), "dim must be even"),
        (lambda: Positions(5, learned=False), "dim must be a multiple of 2"),
        (lambda: Positions(6, axes=2, learned=False), "dim must be a multiple of 4"),
        (lambda: Positions(5), "max_length"),
        (lambda: Positions(5, 7)(torch.zeros(3, 2).long()), "positions must have 1 axes"),
        (lambda: Positions(5, 7, axes=2)(torch.zeros(3).long()), "positions must have 2 axes"),
        (lambda: Positions(5, 7)(torch.tensor([3, 7])), "positions reach 7, but with max_length 7"),
        (
            lambda: Embedding(nn.Embedding(3, 2), Positions(2, 7))(Data(x=torch.arange(3))),
            "set batch.pos",
        ),
    ],
)
def test_errors_name_the_argument(call, match):
    with pytest.raises(ValueError, match=match):
        call()


def test_embedding_is_what_plus_where():
    tokens, positions = nn.Embedding(11, 6), Positions(6, 7)
    batch = Data(x=torch.tensor([3, 10, 3]), pos=torch.tensor([0, 1, 0]), num_nodes=3)
    expected = tokens(batch.x) + positions(batch.pos)
    assert torch.equal(Embedding(tokens, positions)(batch), expected)
    assert torch.equal(Embedding(tokens)(batch), tokens(batch.x))


def test_token_types_and_a_norm():
    tokens, types, norm = nn.Embedding(11, 6), nn.Embedding(2, 6), nn.LayerNorm(6)
    embedding = Embedding(tokens, types=types, norm=norm)
    batch = Data(x=torch.tensor([3, 10, 3]), num_nodes=3)
    torch.testing.assert_close(embedding(batch), norm(tokens(batch.x) + types.weight[0]))
    batch.token_types = torch.tensor([0, 1, 1])
    torch.testing.assert_close(embedding(batch), norm(tokens(batch.x) + types(batch.token_types)))
