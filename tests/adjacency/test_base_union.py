"""Unions: edges, parts, and what keeps the parts."""

from __future__ import annotations

import pytest
import torch
from helpers.awkward import hub, random_edges

import graphformer as gf
from graphformer.adjacency import union
from graphformer.ops import flex


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


def test_part_mask_by_definition():
    whole = union(parts())
    source, target = whole.edge_index
    expected = torch.stack([part.to_mask()[target, source] for part in parts()], dim=1)
    assert torch.equal(whole.part_mask, expected)
    assert whole.part_mask.any(1).all()


def test_a_part_that_contains_all_others_stays_implicit():
    edges = gf.from_edge_index(random_edges(7, 7, 11), 7)
    whole = union([edges, gf.complete(7)])
    assert whole.kernel == "complete"
    assert whole.part_mask[:, 1].all()
    assert whole.part_mask[:, 0].sum() == 11
    assert whole != gf.complete(7), "a union differs from its largest part"
    assert gf.complete(7).parts == ()


def test_operands_become_parts():
    a, b, c = parts()
    for whole in (a | b | c, a | (b | c)):
        assert whole.parts == (a, b, c)
        assert torch.equal(whole.part_mask, union([a, b, c]).part_mask)
        assert torch.equal(whole.edge_index, union([a, b, c]).edge_index)
    loops = (a | a.T).with_self_loops() | c
    assert loops.num_edges == (a | a.T | gf.window(11, 0) | c).num_edges, "no edge is lost"
    assert len(loops.parts) == 3
    assert (gf.complete(7) | gf.window(7, 1)).kernel == "complete"


def test_no_union_has_one_part():
    adjacency = gf.from_edge_index(random_edges(7, 7, 11), 7)
    assert adjacency.part_mask.shape == (11, 1)
    assert adjacency.part_mask.all()


def test_part_mask_after_transpose_and_self_loops():
    a, b, _ = parts()
    whole = union([a, b])
    assert torch.equal(whole.T.part_mask, whole.part_mask), "the order of the edges is the same"
    loops = union([a, a.T]).with_self_loops()
    added = loops.num_edges - union([a, a.T]).num_edges
    assert added > 0
    assert not loops.part_mask[-added:].any(), "new edges are in no part"
    assert loops.part_mask[:-added].any(1).all()


def test_a_batch_of_unions_is_a_union():
    edges = gf.from_edge_index(random_edges(7, 7, 13), 7)
    unions = [edges | gf.window(7, 1), gf.from_edge_index(hub(11), 11) | gf.window(11, 1)]
    whole = gf.batch(unions)
    assert torch.equal(whole.part_mask, torch.cat([each.part_mask for each in unions]))
    assert whole.parts[1] == gf.window([7, 11], 1), "implicit parts stay implicit"
    rules = gf.batch([gf.complete(size) | gf.window(size, 1) for size in (3, 5)])
    assert rules.kernel == "complete"
    assert rules.parts == (gf.complete([3, 5]), gf.window([3, 5], 1))
    assert gf.batch([unions[0], edges]).parts == ()


def test_one_part_is_a_union():
    (a, *_) = parts()
    assert union([a]).part_mask.shape == (19, 1)
    assert torch.equal(union([a]).edge_index, a.edge_index)


def by_edge(adjacency, *, reverse=False):
    """The row of `part_mask` of each edge, by (source, target)."""
    pairs = adjacency.edge_index.T.tolist()
    rows = adjacency.part_mask.tolist()
    return {(j, i) if reverse else (i, j): row for (i, j), row in zip(pairs, rows, strict=True)}


@pytest.mark.parametrize(
    "rule",
    [
        lambda: gf.window(11, 2),
        lambda: gf.window(11, 3, causal=True),
        lambda: gf.causal(11),
        lambda: gf.complete(11),
        lambda: gf.grid((11, 1), radius=2),
        lambda: gf.from_edge_index(random_edges(11, 11, 29), 11),
    ],
)
def test_parts_survive_transpose_conversion_and_intersection(rule):
    for other in (gf.from_edge_index(torch.tensor([[0, 2], [1, 2]]), 11), gf.causal(11)):
        whole = rule() | other
        assert by_edge(whole.T, reverse=True) == by_edge(whole)
        assert by_edge(whole.T.T) == by_edge(whole)
        assert by_edge(whole.to_csr()) == by_edge(whole)
        for met in (whole & gf.window(11, 1), gf.window(11, 1) & whole, gf.complete(11) & whole):
            rows = by_edge(whole)
            assert by_edge(met) == {edge: rows[edge] for edge in by_edge(met)}
            assert len(met.parts) == 2
        assert (whole & (gf.causal(11) | gf.window(11, 1))).parts == ()


def test_transposed_bipartite_unions():
    whole = gf.complete(3, 5) | gf.from_edge_index(torch.tensor([[4], [2]]), 3, num_sources=5)
    assert whole.T.shape == (5, 3)
    assert by_edge(whole.T, reverse=True) == by_edge(whole)


def test_errors():
    with pytest.raises(ValueError, match="adjacencies: got none"):
        union([])
    with pytest.raises(ValueError, match="one shape"):
        union([gf.complete(3), gf.complete(5)])
    with pytest.raises(TypeError, match="adjacencies: got Tensor"):
        union([gf.complete(3), torch.ones(3, 3)])


def test_old_names_work_and_warn():
    whole = union([gf.window(5, 1), gf.causal(5)])
    csr = gf.from_edge_index(torch.tensor([[0, 0], [1, 1]]), 2)
    with pytest.warns(FutureWarning, match="Window.kinds is now called Window.part_mask"):
        assert gf.window(5, 1).kinds.all()
    with pytest.warns(FutureWarning, match=r"\.distinct is now called \w+\.is_coalesced"):
        assert whole.distinct
    with pytest.warns(FutureWarning, match=r"\.of_heads is now called \w+\.per_head"):
        assert not whole.of_heads
    with pytest.warns(FutureWarning, match=r"CSR\.numbers is now called CSR\.find_edges"):
        assert csr.numbers(torch.tensor([1]), torch.tensor([0])).tolist() == [0]
    with pytest.warns(FutureWarning, match=r"CSR\.given is now called CSR\.inverse_index"):
        assert csr.given.tolist() == [0, 0]
    with pytest.warns(FutureWarning, match="BySource is now called graphformer.adjacency.CSC"):
        assert gf.adjacency.BySource is gf.adjacency.CSC


def test_a_union_knows_whether_its_parts_have_all_of_its_edges():
    whole = gf.window(7, 1, causal=True) | gf.from_edge_index(torch.tensor([[6], [0]]), 7)
    strict = whole & gf.from_mask(~torch.eye(7).bool())
    loops = strict.with_self_loops()
    assert whole.is_union_of_parts
    assert strict.is_union_of_parts
    for other in (loops, loops.T, loops.canonical(), loops | gf.window(7, 0), gf.batch([loops])):
        assert not other.is_union_of_parts
    assert gf.from_edge_index(torch.tensor([[6], [0]]), 7).with_self_loops().is_union_of_parts
    for adjacency in (whole, strict, whole.T, gf.batch([whole, strict])):
        parts = adjacency.parts
        assert len(parts) == 2
        assert torch.equal(adjacency.to_mask(), parts[0].to_mask() | parts[1].to_mask())


def test_flex_does_not_take_a_union_with_self_loops_for_its_parts():
    blocks = [2, 3], [3, 2]
    rules = gf.complete(*blocks) | gf.causal(*blocks)
    loops = rules.with_self_loops()
    assert loops.num_edges > rules.num_edges
    assert flex.rules_of(loops) == ()
    assert len(flex.rules_of(rules.to_csr())) == 2
