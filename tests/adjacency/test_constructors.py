"""The public constructors: accepted arguments and errors."""

from __future__ import annotations

import networkx
import numpy
import pytest
import torch
from helpers.awkward import random_edges
from torch_geometric import EdgeIndex

import graphformer as gf
from graphformer.adjacency import Window

EDGES = random_edges(7, 7, 19)


@pytest.mark.parametrize(
    "edges",
    [
        EDGES.int(),
        EDGES.to(torch.uint8),
        EDGES.T.contiguous().T,
        EdgeIndex(EDGES, sparse_size=(7, 7)),
        EDGES.tolist(),
    ],
    ids=["int32", "uint8", "non-contiguous", "EdgeIndex", "list"],
)
def test_edge_index_in_any_form(edges):
    adjacency = gf.from_edge_index(edges, 7)
    assert type(adjacency.edge_index) is torch.Tensor
    assert torch.equal(adjacency.edge_index, EDGES)


def test_the_callers_tensor_is_copied():
    edges = EDGES.clone()
    adjacency = gf.from_edge_index(edges, 7)
    edges.zero_()
    assert torch.equal(adjacency.edge_index, EDGES)


def test_bipartite_edges_in_three_forms():
    edges = random_edges(3, 5, 7)
    pair = gf.from_edge_index(edges, (3, 5))
    for other in (
        gf.from_edge_index(edges, 3, num_sources=5),
        gf.from_edge_index(edges, num_nodes=[3, 5]),
    ):
        assert other.shape == pair.shape == (3, 5)
        assert torch.equal(other.edge_index, pair.edge_index)


def test_networkx():
    graph = networkx.DiGraph([("b", "a"), ("a", "c")])  # nodes are numbered b, a, c
    assert gf.from_networkx(graph).edge_index.tolist() == [[0, 1], [1, 2]]
    graph = networkx.Graph([(5, 3), (3, 3), (3, 2)])
    assert gf.from_networkx(graph).edge_index.tolist() == [[0, 1, 1, 1, 2], [1, 1, 2, 0, 1]]
    graph = networkx.MultiDiGraph([(0, 1), (0, 1)])
    assert gf.from_networkx(graph).num_edges == 1
    assert gf.from_networkx(networkx.empty_graph(3)).shape == (3, 3)
    assert gf.from_networkx(networkx.Graph()).shape == (0, 0)


def test_batch_is_block_diagonal_in_order():
    parts = [
        gf.from_edge_index(random_edges(5, 3, 7), (5, 3)),
        gf.window(2, 1),
        gf.from_edge_index(torch.empty(2, 0, dtype=torch.int64), (0, 2)),
        gf.from_edge_index(EDGES, 7),
    ]
    whole = gf.batch(parts)
    expected = torch.block_diag(*(part.to_mask().int() for part in parts)).bool()
    assert whole.shape == (14, 14)
    assert torch.equal(whole.to_mask(), expected)
    corner = torch.tensor([[7], [7]])
    assert torch.equal(whole.edge_index[:, -19:], EDGES + corner)
    assert gf.batch([parts[0]]).edge_index.tolist() == parts[0].edge_index.tolist()


def test_a_batch_of_one_rule_stays_implicit():
    assert gf.batch([gf.window(3, 1), gf.window([5, 7], 1)]) == gf.window([3, 5, 7], 1)
    assert gf.batch([gf.grid((2, 3)), gf.grid((5, 7))]) == gf.grid([(2, 3), (5, 7)])
    mixed = gf.batch([gf.window(3, 1), gf.window(5, 2)])
    assert not isinstance(mixed, Window)
    assert mixed.num_edges == gf.window(3, 1).num_edges + gf.window(5, 2).num_edges


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (
            lambda: gf.from_edge_index(torch.zeros(2, 3), 5),
            TypeError,
            "edge_index: got dtype .* integers",
        ),
        (lambda: gf.from_edge_index(EDGES > 3, 7), TypeError, "edge_index: got dtype"),
        (lambda: gf.from_edge_index(EDGES.T, 7), ValueError, r"edge_index: got shape .* \[2, E\]"),
        (lambda: gf.from_edge_index(EDGES[0], 7), ValueError, r"edge_index: got shape .* \[2, E\]"),
        (lambda: gf.from_edge_index(EDGES, -1), ValueError, "num_nodes"),
        (lambda: gf.from_edge_index(EDGES, 7.0), ValueError, "num_nodes"),
        (lambda: gf.from_edge_index(EDGES, 5), IndexError, "source 6.* 0 to 4; .*num_nodes"),
        (lambda: gf.from_edge_index(EDGES, (5, 7)), IndexError, "target 6.*num_nodes"),
        (lambda: gf.from_edge_index(-EDGES, 7), IndexError, "source -6"),
        (lambda: gf.from_mask(torch.ones(3, 3)), TypeError, "mask: got dtype"),
        (lambda: gf.from_mask(torch.ones(3, dtype=torch.bool)), ValueError, "mask: got shape"),
        (lambda: gf.from_edge_index(EDGES, 7, num_sources=5), IndexError, "got source 6"),
        (lambda: gf.from_edge_index(EDGES, 7, num_sources=-1), ValueError, "num_sources: got -1"),
        (lambda: gf.from_edge_index(EDGES, (7, 7), num_sources=7), ValueError, "num_sources: got"),
        (lambda: gf.from_edge_index(EDGES, (7, 7, 7)), ValueError, r"num_nodes: got \(7, 7, 7\)"),
        (lambda: gf.from_mask(numpy.eye(3, dtype=bool)), TypeError, "mask: got ndarray"),
        (lambda: gf.batch(gf.complete(2)), TypeError, "got a single Complete, .* for batch"),
        (lambda: gf.batch([]), ValueError, "at least one"),
        (lambda: gf.batch([torch.ones(2, 2)]), TypeError, "got Tensor"),
        (
            lambda: gf.batch([gf.complete(2), gf.window(2, 1).to_csr().to("meta")]),
            ValueError,
            "device",
        ),
    ],
)
def test_errors_name_the_argument(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_values_of_batched_edge_lists_with_duplicates():
    torch.manual_seed(3)
    lists = [torch.tensor([[0, 1, 0], [1, 1, 1]]), torch.tensor([[2, 0], [0, 1]])]
    parts = [gf.from_edge_index(edges, n) for edges, n in zip(lists, (2, 3), strict=True)]
    both = gf.batch([parts[0], gf.complete(1), parts[1]])
    given = torch.tensor([0.5, 0.7, 0.5, 0.3, 0.2, 0.9])  # an edge of the first list comes twice
    unique = torch.tensor([0.5, 0.7, 0.3, 0.2, 0.9])
    q = torch.randn(6, 2, 3)
    expected = gf.attention(q, q, q, both, bias=unique)
    torch.testing.assert_close(gf.attention(q, q, q, both, bias=given), expected)


def test_batch_keeps_repeated_edges():
    edges = torch.tensor([[0, 1, 0], [1, 1, 1]])
    part = gf.from_edge_index(edges, 2, coalesce=False)
    both = gf.batch([part, part])
    assert both.num_edges == 6
    q = torch.randn(2, 1, 3)
    one = gf.attention(q, q, q, part)
    torch.testing.assert_close(gf.attention(*[q.repeat(2, 1, 1)] * 3, both), one.repeat(2, 1, 1))
    assert part.with_self_loops().num_edges == 4
