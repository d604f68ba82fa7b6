"""Sampled neighbourhoods and induced subgraphs against the whole graph."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.graphs import random_graph
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import Data

import graphformer as gf
from graphformer.data.graph.sampling import extract_subgraph, induced_subgraph, sample_neighbors
from graphformer.models import gat
from graphformer.patterns import Complete, Edges

NODES = 101


def csr(graph: Data) -> gf.adjacency.CSR:
    return gf.from_edge_index(graph.edge_index, graph.num_nodes, coalesce=False)


@given(
    st.lists(st.sampled_from([-1, 0, 1, 2, 7, 200]), max_size=3),
    st.booleans(),
    st.booleans(),
    st.integers(0, 2**40),
)
def test_a_sample_is_a_part_of_the_graph(
    fanouts: list[int], replace: bool, disjoint: bool, seed: int
) -> None:
    graph = random_graph()
    seeds = torch.tensor([17, 3, 89])
    options = {"replace": replace, "disjoint": disjoint, "seed": seed}
    sample = sample_neighbors(csr(graph), seeds, fanouts, **options)
    part = extract_subgraph(graph, csr(graph), sample)
    positions = part.ptr[:-1] if disjoint else torch.arange(3)
    assert torch.equal(part.n_id[positions], seeds)
    assert part.batch_size == 3
    assert sum(part.lengths) == part.num_nodes
    source, target = part.n_id[part.edge_index]
    assert torch.equal(graph.edge_index[:, part.e_id], torch.stack([source, target]))
    assert torch.equal(part.edge_attr, part.e_id)
    assert torch.equal(part.x, graph.x[part.n_id])
    assert sum(sample.num_nodes) == part.num_nodes
    if disjoint:
        assert torch.equal(part.batch[part.edge_index[0]], part.batch[part.edge_index[1]])
        assert torch.equal(part.batch, torch.arange(3).repeat_interleave(part.ptr.diff()))
        assert part.lengths == tuple(part.ptr.diff().tolist())
        keys = part.batch * NODES + part.n_id
    else:
        keys = part.n_id
    assert len(keys.unique()) == len(keys)
    if not replace:
        assert len(sample.slots.unique()) == len(sample.slots) or disjoint


def test_each_node_draws_its_fan_out_or_all() -> None:
    graph = random_graph()
    degree = graph.edge_index[1].bincount(minlength=NODES)
    sample = sample_neighbors(csr(graph), torch.arange(NODES), [5])
    drawn = sample.edge_index[1].bincount(minlength=NODES)
    assert torch.equal(drawn, degree.clamp(max=5))
    assert sample.num_nodes == [NODES, 0]
    replaced = sample_neighbors(csr(graph), torch.arange(NODES), [97], replace=True)
    assert replaced.num_edges == [97 * int((degree > 0).sum())]


def test_the_seed_alone_decides() -> None:
    adjacency = csr(random_graph())
    first = sample_neighbors(adjacency, torch.tensor([5, 11]), [3, 2], seed=1)
    np.random.seed(0)
    again = sample_neighbors(adjacency, torch.tensor([5, 11]), [3, 2], seed=1)
    other = sample_neighbors(adjacency, torch.tensor([5, 11]), [3, 2], seed=2)
    assert torch.equal(first.slots, again.slots)
    assert not torch.equal(first.slots, other.slots)


def test_disjoint_samples_do_not_attend_to_one_another() -> None:
    graph = random_graph()
    seeds = torch.tensor([17, 3, 17, 89])
    sample = sample_neighbors(csr(graph), seeds, [3, 2], disjoint=True)
    part = extract_subgraph(graph, csr(graph), sample)
    source, target = Complete()(part).edge_index
    assert torch.equal(part.batch[source], part.batch[target])
    assert len(source) == sum(length**2 for length in part.lengths)
    loose = seeds.new_tensor([1])
    alone = extract_subgraph(graph, csr(graph), sample_neighbors(csr(graph), loose, [3]))
    assert "ptr" not in alone
    assert alone.lengths == (alone.num_nodes,)


def test_a_rectangular_adjacency_is_refused() -> None:
    adjacency = gf.from_edge_index(torch.tensor([[0], [1]]), (3, 5))
    with pytest.raises(ValueError, match="got 3 targets and 5 sources, expected a square"):
        sample_neighbors(adjacency, torch.tensor([0]), [1])


def test_with_all_neighbours_seeds_get_what_the_whole_graph_gives_them() -> None:
    graph = random_graph()
    torch.manual_seed(0)
    network = gat(5, 3, dim=7, num_heads=2).eval()
    pattern = Edges(self_loops=True)
    seeds = torch.tensor([2, 61, 7, 97])
    part = extract_subgraph(graph, csr(graph), sample_neighbors(csr(graph), seeds, [-1, -1]))
    with torch.no_grad():
        whole = network(graph, pattern(graph))[seeds]
        sampled = network(part, pattern(part))[:4]
    torch.testing.assert_close(sampled, whole)


def test_a_cluster_has_the_edges_within() -> None:
    graph = random_graph()
    nodes = torch.randperm(NODES, generator=torch.Generator().manual_seed(0))[:53]
    part = extract_subgraph(graph, csr(graph), induced_subgraph(csr(graph), nodes))
    inside = torch.isin(graph.edge_index, nodes).all(0)
    assert torch.equal(part.e_id.sort().values, inside.nonzero().flatten())
    assert torch.equal(part.n_id[part.edge_index], graph.edge_index[:, part.e_id])


def test_awkward_graphs() -> None:
    empty = gf.from_edge_index(torch.empty(2, 0, dtype=torch.long), 3)
    sample = sample_neighbors(empty, torch.tensor([1]), [-1, 5])
    assert (sample.num_nodes, sample.num_edges) == ([1, 0, 0], [0, 0])
    loop = gf.from_edge_index(torch.tensor([[0], [0]]), 1)
    assert sample_neighbors(loop, torch.tensor([0]), [3]).edge_index.tolist() == [[0], [0]]
    assert sample_neighbors(loop, torch.empty(0, dtype=torch.long), [3]).num_nodes == [0, 0]


@pytest.mark.parametrize(
    ("seeds", "fanouts", "error", "message"),
    [
        ([0, 0], [1], ValueError, "seeds: got repeated nodes, expected distinct ones"),
        ([7], [1], IndexError, r"seeds: got \[7\], expected node indices from 0 to 6"),
        ([0], [-2], ValueError, r"fanouts: got \[-2\], expected -1 \(all\) or more"),
    ],
)
def test_senseless_samples_are_refused(
    seeds: list[int], fanouts: list[int], error: type[Exception], message: str
) -> None:
    adjacency = gf.from_edge_index(torch.tensor([[0], [1]]), 7)
    with pytest.raises(error, match=message):
        sample_neighbors(adjacency, torch.tensor(seeds), fanouts)


def test_what_is_no_number_is_refused_and_rules_are_sampled() -> None:
    adjacency = gf.window(7, 1)
    with pytest.raises(TypeError, match="fanouts: got 3, expected a sequence of integers"):
        sample_neighbors(adjacency, torch.tensor([1]), 3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="seeds: got torch.bool, expected node indices"):
        sample_neighbors(adjacency, torch.tensor([True, False]), [3])
    sample = sample_neighbors(adjacency, torch.tensor([3]), [-1, np.int64(-1)])
    assert sorted(sample.nodes.tolist()) == [1, 2, 3, 4, 5]
    assert induced_subgraph(adjacency, torch.tensor([0, 1, 3])).edge_index.shape == (2, 5)


def test_cut_refuses_edges_that_were_counted_once() -> None:
    graph = Data(edge_index=torch.tensor([[0, 0], [1, 1]]), num_nodes=2)
    adjacency = gf.from_edge_index(graph.edge_index, 2)
    with pytest.raises(ValueError, match="coalesce=False"):
        extract_subgraph(graph, adjacency, induced_subgraph(adjacency, torch.tensor([0, 1])))
