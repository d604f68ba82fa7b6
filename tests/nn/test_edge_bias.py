"""What a batch knows about its edges, on adjacencies that have other edges."""

from __future__ import annotations

import networkx
import pytest
import torch
from helpers.awkward import random_edges
from torch_geometric.data import Batch, Data

import graphformer as gf
from graphformer.adjacency import union
from graphformer.data.graph.encodings import ShortestPaths
from graphformer.nn import DistanceBias, EdgeEncoder, FeatureBias, PartBias, PathBias, TypeBias
from graphformer.patterns import Complete, Edges, Window

HEADS, FEATURES, FAR = 3, 5, 3


def graph(nodes, count, seed=0):
    edges = random_edges(nodes, nodes, count, seed)
    count = edges.shape[1]
    generator = torch.Generator().manual_seed(seed)
    return Data(
        edge_index=edges,
        num_nodes=nodes,
        edge_attr=torch.randn(count, FEATURES, generator=generator),
        edge_type=torch.randint(4, (count,), generator=generator),
        edge_weight=torch.rand(count, generator=generator),
    )


def batched(transform=None):
    graphs = [graph(7, 11), graph(1, 0), graph(5, 13, seed=1), graph(3, 0)]
    return Batch.from_data_list([transform(g) if transform else g for g in graphs])


def dense(batch, values, fill):
    out = torch.full((batch.num_nodes, batch.num_nodes, *values.shape[1:]), fill)
    out[batch.edge_index[1], batch.edge_index[0]] = values
    return out


def drawn(module):
    with torch.no_grad():
        for p in module.parameters():
            p.normal_()
    return module


def test_biases_of_parts_add_up():
    batch = batched()
    adjacency = (Edges() | Window(1))(batch)
    bias = drawn(PartBias(2, HEADS))
    out = bias(batch, adjacency)
    source, target = adjacency.edge_index
    near = Window(1)(batch).to_mask()[target, source].float().unsqueeze(1)
    real = Edges()(batch).to_mask()[target, source].float().unsqueeze(1)
    torch.testing.assert_close(out, real * bias.table[0] + near * bias.table[1])
    assert bias(batch, Edges()(batch)) is None, "not a union"
    with pytest.raises(ValueError, match="adjacency: got a union of 3 parts, expected 2"):
        bias(batch, union([Edges()(batch)] * 3))


@pytest.mark.parametrize("pattern", [Edges(), Edges(self_loops=True), Complete(), Window(2)])
def test_types_and_features_follow_their_edges(pattern):
    batch = batched()
    adjacency = pattern(batch)
    source, target = adjacency.edge_index
    types, features = drawn(TypeBias(4, HEADS)), drawn(FeatureBias(FEATURES, HEADS))
    expected = dense(batch, types.table[batch.edge_type], 0.0)[target, source]
    torch.testing.assert_close(types(batch, adjacency), expected)
    expected = dense(batch, batch.edge_attr, 0.0)[target, source] @ features.linear.weight.T
    torch.testing.assert_close(features(batch, adjacency), expected)


def test_options():
    batch = batched()
    adjacency = Edges(self_loops=True)(batch)
    biases = [drawn(TypeBias(4, HEADS)), drawn(FeatureBias(FEATURES, HEADS))]
    options = EdgeEncoder([*biases, PartBias(2, HEADS)], features=FEATURES, weighted=True)
    assert not options.empty
    found = options(batch, adjacency)
    torch.testing.assert_close(found["bias"], sum(bias(batch, adjacency) for bias in biases))
    source, target = adjacency.edge_index
    assert torch.equal(found["edge_weight"], dense(batch, batch.edge_weight, 1.0)[target, source])
    assert torch.equal(found["edge_attr"], dense(batch, batch.edge_attr, 0.0)[target, source])
    assert EdgeEncoder()(batch, adjacency) == {}
    assert EdgeEncoder().empty
    with pytest.raises(ValueError, match="got 5 columns, expected 7, .* num_edge_features=7"):
        EdgeEncoder(features=7)(batch, adjacency)


def distances(batch):
    """Of networkx, from source to target; [target, source]."""
    graph = networkx.DiGraph()
    graph.add_nodes_from(range(batch.num_nodes))
    graph.add_edges_from(batch.edge_index.T.tolist())
    out = torch.full((batch.num_nodes, batch.num_nodes), FAR + 1)
    for source, found in networkx.all_pairs_shortest_path_length(graph, cutoff=FAR):
        for target, length in found.items():
            out[target, source] = length
    return out


@pytest.mark.parametrize("nodes", [True, False])
@pytest.mark.parametrize("pattern", [Complete(), Window(1), Edges() | Window(0)], ids=str)
def test_distances_are_networkxs(pattern, nodes):
    batch = batched(ShortestPaths(FAR, nodes=nodes))
    bias = drawn(DistanceBias(FAR, HEADS))
    adjacency = pattern(batch)
    source, target = adjacency.edge_index
    expected = bias.table[distances(batch)[target, source]]
    torch.testing.assert_close(bias(batch, adjacency), expected)


def test_virtual_nodes_have_a_distance_of_their_own():
    batch = batched(ShortestPaths(FAR))
    batch.virtual_mask = torch.zeros(16, dtype=torch.bool)
    batch.virtual_mask[6] = True
    bias = drawn(DistanceBias(FAR, HEADS))
    adjacency = Complete()(batch)
    touched = (adjacency.edge_index == 6).any(0)
    assert (bias(batch, adjacency)[touched] == bias.table[FAR + 2]).all()


def test_path_bias_is_graphormers_formula():
    batch = batched(ShortestPaths(FAR))
    bias = drawn(PathBias(FEATURES, FAR, HEADS)).double()
    adjacency = Complete()(batch)
    weight = bias.steps.weight.unflatten(0, (FAR, HEADS))
    number = {(s, t): i for i, (s, t) in enumerate(batch.edge_index.T.tolist())}
    paths, lengths = batch.path_index.T.tolist(), batch.path_length.tolist()
    expected = torch.zeros(16, 16, HEADS, dtype=torch.float64)
    for path, length in zip(paths, lengths, strict=True):
        edges = [number[path[n], path[n + 1]] for n in range(length)]
        parts = [weight[n] @ batch.edge_attr[e].double() for n, e in enumerate(edges)]
        if parts:
            expected[path[-1], path[0]] = sum(parts) / length
    source, target = adjacency.edge_index
    torch.testing.assert_close(bias(batch, adjacency), expected[target, source])


def test_errors_name_absent_fields():
    batch = Data(edge_index=random_edges(3, 3, 5), num_nodes=3)
    adjacency = Edges()(batch)
    for module, name in [
        (TypeBias(2, HEADS), "edge_type"),
        (FeatureBias(2, HEADS), "edge_attr"),
        (DistanceBias(2, HEADS), "path_index"),
        (EdgeEncoder(weighted=True), "edge_weight"),
    ]:
        with pytest.raises(ValueError, match=rf"batch\.{name}: got None, expected a tensor; "):
            module(batch, adjacency)
    batch = ShortestPaths(2)(batch)
    batch.edge_attr = torch.ones(5, FEATURES)
    with pytest.raises(ValueError, match=r"got 3 rows, expected 5; .*'shortest_path:4'"):
        PathBias(FEATURES, 4, HEADS)(batch, gf.complete(3))
