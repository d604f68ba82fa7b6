"""Unions, intersections and groups of patterns."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import Batch, Data

from graphformer import patterns
from graphformer.patterns import (
    Causal,
    Complete,
    Dilated,
    Edges,
    Pattern,
    PerLayer,
    SelfLoops,
    Union,
    Window,
)
from graphformer.patterns.base import over_samples

EDGES = torch.tensor([[0, 1, 2, 2], [1, 2, 0, 2]])


def packed(*lengths: int) -> Data:
    return Data(x=torch.zeros(sum(lengths), 3), lengths=lengths)


def graphs() -> Batch:
    """Graphs of 3 and 5 nodes."""
    return Batch.from_data_list(
        [Data(edge_index=EDGES, num_nodes=3), Data(edge_index=EDGES, num_nodes=5)]
    )


def test_composition():
    batch = graphs()
    a, b, c = (p(batch).to_mask() for p in (Edges(), Window(1), Causal()))
    assert torch.equal((Edges() | Window(1))(batch).to_mask(), a | b)
    assert torch.equal((Edges() & Causal())(batch).to_mask(), a & c)
    assert torch.equal(((Edges() | Window(1)) & Causal())(batch).to_mask(), (a | b) & c)
    assert torch.equal(patterns.Union((Edges(), Window(1), Causal()))(batch).to_mask(), a | b | c)


def test_compositions_are_cached():
    batch = graphs()
    pattern = Edges() | Window(1)
    assert pattern(batch) is pattern(batch)
    assert (Causal() & Window(1))(packed(3, 5)) is (Causal() & Window(1))(packed(3, 5))


def test_a_list_from_yaml_becomes_a_tuple():
    assert patterns.Union([Complete(), Window(1)]) == Complete() | Window(1)
    assert hash(patterns.Union([Complete()])) == hash(patterns.Union((Complete(),)))
    with pytest.raises(ValueError, match="patterns: got none, .* give Union"):
        patterns.Union(())
    with pytest.raises(ValueError, match="patterns: got none, .* give Intersection"):
        patterns.Intersection([])


single = st.sampled_from(
    [Complete(), Causal(), Window(1), Window(2, causal=True), SelfLoops(), Edges(), Dilated(1, 2)]
)


@given(single, single, single)
def test_algebra_is_that_of_masks(a: Pattern, b: Pattern, c: Pattern):
    batch = graphs()
    A, B, C = (pattern(batch).to_mask() for pattern in (a, b, c))
    assert torch.equal((a | b | c)(batch).to_mask(), A | B | C)
    assert torch.equal((a & b & c)(batch).to_mask(), A & B & C)
    assert torch.equal(((a | b) & c)(batch).to_mask(), (A | B) & C)
    assert torch.equal((a | (b & c))(batch).to_mask(), A | (B & C))
    union = (a | b | c)(batch)
    source, target = union.edge_index
    expected = torch.stack([mask[target, source] for mask in (A, B, C)], dim=1)
    assert torch.equal(union.part_mask, expected)
    met = ((a | b) & c)(batch)
    source, target = met.edge_index
    if not isinstance(c, Union):
        expected = torch.stack([mask[target, source] for mask in (A, B)], dim=1)
        assert torch.equal(met.part_mask, expected)


def test_a_union_of_unions_is_one_union():
    assert (Causal() | Window(1) | Edges()).patterns == (Causal(), Window(1), Edges())
    assert (Causal() | (Window(1) | Edges())).patterns == (Causal(), Window(1), Edges())
    nested = (Causal() & Window(1)) | Edges()
    assert len(nested.patterns) == 2


def test_a_pattern_has_to_be_implemented():
    with pytest.raises(NotImplementedError):
        Pattern()(packed(3))


def test_groups_inside_of_a_union_are_refused():
    for kind in (patterns.Union, patterns.Intersection):
        with pytest.raises(ValueError, match="got a PerLayer, expected patterns that make one"):
            kind((Causal(), PerLayer((Causal(), Window(1)))))


def test_over_samples_calls_once_per_layout():
    calls = []

    def make(sizes: tuple[int, ...], radius: int):
        calls.append(sizes)
        return Window(radius)(packed(*sizes))

    first = over_samples(packed(3, 5), make, 1)
    assert over_samples(packed(3, 5), make, 1) is first
    over_samples(packed(5, 3), make, 1)
    over_samples(packed(3, 5), make, 2)
    assert calls == [(3, 5), (5, 3), (3, 5)]
