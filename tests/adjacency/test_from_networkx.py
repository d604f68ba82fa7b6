"""Conversion to and from networkx, with attributes of nodes and edges."""

from __future__ import annotations

import networkx
import pytest
import torch
from helpers.awkward import random_edges

import graphformer as gf
from graphformer.adjacency import networkx_values


@pytest.mark.parametrize("count", [0, 1, 17])
def test_round_trip_with_attributes(count):
    adjacency = gf.from_edge_index(random_edges(7, 7, count), 7)
    weight, x = torch.rand(count, dtype=torch.float64), torch.randn(7, 3)
    graph = adjacency.to_networkx(nodes={"x": x}, edges={"weight": weight})
    again = gf.from_networkx(graph)
    assert again.shape == (7, 7)
    assert torch.equal(again.to_mask(), adjacency.to_mask())
    torch.testing.assert_close(networkx_values(graph, "x", of="nodes"), x)
    read = networkx_values(graph, "weight", of="edges").double()
    dense = torch.zeros(2, 7, 7, dtype=torch.float64)
    for number, (edges, values) in enumerate([(adjacency, weight), (again, read)]):
        dense[number][edges.edge_index[0], edges.edge_index[1]] = values
    torch.testing.assert_close(dense[0], dense[1], rtol=1e-6, atol=0)


def test_values_of_undirected_edges_apply_to_both_directions():
    graph = networkx.Graph()
    graph.add_edge("a", "b", weight=2.0)
    graph.add_edge("b", "b", weight=3.0)
    graph.add_edge("b", "c", weight=5.0)
    assert gf.from_networkx(graph).edge_index.tolist() == [[0, 1, 1, 1, 2], [1, 1, 2, 0, 1]]
    assert networkx_values(graph, "weight", of="edges").tolist() == [2, 3, 5, 2, 5]


def test_parallel_edges():
    graph = networkx.MultiDiGraph()
    graph.add_edge(0, 1, weight=2.0)
    graph.add_edge(0, 1, weight=2.0)
    assert networkx_values(graph, "weight", of="edges").tolist() == [2]
    graph.add_edge(0, 1, weight=3.0)
    with pytest.raises(ValueError, match="different values for duplicates"):
        networkx_values(graph, "weight", of="edges")


def test_missing_attributes():
    graph = networkx.path_graph(3, create_using=networkx.DiGraph)
    graph.edges[0, 1]["weight"] = 7.0
    with pytest.raises(KeyError, match="got 'weight', which 1 of 2 edges do not have"):
        networkx_values(graph, "weight", of="edges")
    assert networkx_values(graph, "weight", of="edges", default=1.0).tolist() == [7, 1]


def test_bipartite():
    adjacency = gf.from_edge_index(random_edges(3, 5, 7), (3, 5))
    graph = adjacency.to_networkx(edges={"weight": torch.arange(7)})
    assert [graph.nodes[n]["bipartite"] for n in graph] == [0] * 5 + [1] * 3
    for number, (source, target) in enumerate(adjacency.edge_index.T.tolist()):
        assert graph.edges[source, 5 + target]["weight"] == number


def test_a_wrong_number_of_values():
    with pytest.raises(ValueError, match="x: got 2 values, expected 3"):
        gf.complete(3).to_networkx(nodes={"x": [1, 2]})
    with pytest.raises(ValueError, match="weight: got 2 values, expected 9"):
        gf.complete(3).to_networkx(edges={"weight": [1, 2]})


def test_repeated_edges_make_a_multigraph():
    adjacency = gf.from_edge_index(torch.tensor([[0, 0, 1], [1, 1, 0]]), 2, coalesce=False)
    graph = adjacency.to_networkx(edges={"weight": [0.25, 0.75, 1.0]})
    assert graph.is_multigraph()
    found = [weight for *_, weight in graph.edges(data="weight")]
    assert found == [0.25, 0.75, 1.0]


def test_invalid_values_and_graphs():
    graph = networkx.path_graph(3, create_using=networkx.DiGraph)
    for node, (kind, x) in zip(graph, [("a", [1.0]), ("b", [1.0, 2.0]), ("c", [3.0])], strict=True):
        graph.nodes[node].update(kind=kind, x=x, y=None)
    for name in ("kind", "x", "y"):
        with pytest.raises(ValueError, match=f"got {name!r} of nodes .* expected numbers"):
            networkx_values(graph, name, of="nodes", default=0.0)
    with pytest.raises(ValueError, match="of: got 'node', expected 'nodes' or 'edges'"):
        networkx_values(graph, "x", of="node")
    with pytest.raises(TypeError, match="G: got list, expected a networkx graph"):
        gf.from_networkx([(0, 1)])
