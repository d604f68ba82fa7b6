"""Unions that remember where their edges came from."""

from __future__ import annotations

import pytest
import torch
from helpers.awkward import hub, random_edges

import graphformer as gf
from graphformer.adjacency import union


def parts():
    return [
        gf.from_edge_index(random_edges(11, 11, 19), 11),
        gf.window(11, 1),
        gf.from_edge_index(hub(11), 11),
    ]


def test_edges_are_those_of_any_part():
    whole = union(parts())
    a, b, c = parts()
    assert torch.equal(whole.to_mask(), (a | b | c).to_mask())
    assert torch.equal(whole.edge_index, (a | b | c).edge_index)


def test_kinds_tell_which_part_has_each_edge():
    whole = union(parts())
    source, target = whole.edge_index
    expected = torch.stack([part.to_mask()[target, source] for part in parts()], dim=1)
    assert torch.equal(whole.kinds, expected)
    assert whole.kinds.any(1).all()


def test_a_part_that_holds_all_others_stays_a_rule():
    edges = gf.from_edge_index(random_edges(7, 7, 11), 7)
    whole = union([edges, gf.complete(7)])
    assert whole.kernel == "complete"
    assert whole.kinds[:, 1].all()
    assert whole.kinds[:, 0].sum() == 11
    assert whole != gf.complete(7), "one that remembers its parts is not one that has none"
    assert gf.complete(7).parts == ()


def test_operators_remember_their_operands():
    a, b, c = parts()
    for whole in (a | b | c, a | (b | c)):
        assert whole.parts == (a, b, c)
        assert torch.equal(whole.kinds, union([a, b, c]).kinds)
        assert torch.equal(whole.edge_index, union([a, b, c]).edge_index)
    loops = (a | a.T).with_self_loops() | c
    assert loops.num_edges == (a | a.T | gf.window(11, 0) | c).num_edges, "no edge is lost"
    assert len(loops.parts) == 3
    assert (gf.complete(7) | gf.window(7, 1)).kernel == "complete"


def test_no_union_has_one_kind():
    adjacency = gf.from_edge_index(random_edges(7, 7, 11), 7)
    assert adjacency.kinds.shape == (11, 1)
    assert adjacency.kinds.all()


def test_kinds_survive_what_is_done_to_a_union():
    a, b, _ = parts()
    whole = union([a, b])
    assert torch.equal(whole.T.kinds, whole.kinds), "the order of the edges is the same"
    loops = union([a, a.T]).with_self_loops()
    added = loops.num_edges - union([a, a.T]).num_edges
    assert added > 0
    assert not loops.kinds[-added:].any(), "new edges are in no part"
    assert loops.kinds[:-added].any(1).all()


def test_a_batch_of_unions_is_a_union():
    edges = gf.from_edge_index(random_edges(7, 7, 13), 7)
    unions = [edges | gf.window(7, 1), gf.from_edge_index(hub(11), 11) | gf.window(11, 1)]
    whole = gf.batch(unions)
    assert torch.equal(whole.kinds, torch.cat([each.kinds for each in unions]))
    assert whole.parts[1] == gf.window([7, 11], 1), "a rule stays a rule"
    rules = gf.batch([gf.complete(size) | gf.window(size, 1) for size in (3, 5)])
    assert rules.kernel == "complete"
    assert rules.parts == (gf.complete([3, 5]), gf.window([3, 5], 1))
    assert gf.batch([unions[0], edges]).parts == ()


def test_one_part_is_a_union():
    (a, *_) = parts()
    assert union([a]).kinds.shape == (19, 1)
    assert torch.equal(union([a]).edge_index, a.edge_index)


def test_errors():
    with pytest.raises(ValueError, match="at least one adjacency"):
        union([])
    with pytest.raises(ValueError, match="one shape"):
        union([gf.complete(3), gf.complete(5)])
    with pytest.raises(TypeError, match="two adjacencies, got Tensor"):
        union([gf.complete(3), torch.ones(3, 3)])
