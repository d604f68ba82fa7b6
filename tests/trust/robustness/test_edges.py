"""Weights of edges: 1 is an edge, 0 is none, with the right gradients; random and PRBCD changes."""

from __future__ import annotations

import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.utils import is_undirected, to_undirected

from graphformer import models
from graphformer.patterns import Complete, Edges
from graphformer.tasks import Classification
from graphformer.trust.robustness import EdgeWeights, perturb_edges, prbcd

NODES, FEATURES, CLASSES = 13, 5, 3
NETWORKS = {
    "gat": lambda: models.gat(FEATURES, CLASSES, dim=4, num_heads=2, depth=2),
    "gcn": lambda: models.gcn(FEATURES, CLASSES, dim=7, depth=2),
    "gps, gin": lambda: models.gps(FEATURES, CLASSES, dim=8, num_heads=2, depth=2),
    "gps, gcn": lambda: models.gps(FEATURES, CLASSES, dim=8, num_heads=2, depth=2, local="gcn"),
    "transformer": lambda: models.graph_transformer(FEATURES, CLASSES, dim=8, num_heads=2, depth=2),
}


def make_graph() -> Data:
    generator = torch.Generator().manual_seed(0)
    edges = to_undirected(torch.randint(NODES, (2, 17), generator=generator), num_nodes=NODES)
    return Data(
        x=torch.randn(NODES, FEATURES, generator=generator),
        y=torch.randint(CLASSES, (NODES,), generator=generator),
        edge_index=edges[:, edges[0] != edges[1]],
        lengths=(NODES,),
    )


def make_model(name: str) -> EdgeWeights:
    torch.manual_seed(1)
    adjacency = Complete() if name == "gps, gcn" else Edges(self_loops=True)
    task = Classification(NETWORKS[name](), adjacency, num_classes=CLASSES, level="node").eval()
    return EdgeWeights(task, make_graph())


@pytest.mark.parametrize("name", NETWORKS)
def test_a_weight_of_zero_is_an_absent_edge_and_of_one_a_plain_one(name: str):
    model, graph = make_model(name), make_graph()
    edges = graph.edge_index
    kept = torch.arange(edges.shape[1]) % 3 > 0
    plain = model(graph.x, edges[:, kept])
    weighted = model(graph.x, edges, kept.float())
    full, ones = model(graph.x, edges), model(graph.x, edges, torch.ones(len(kept)))
    scale = float(plain.detach().abs().max())
    assert torch.allclose(weighted, plain, atol=1e-6 * scale)
    assert not torch.allclose(plain, full, atol=1e-3 * scale, rtol=0)
    assert torch.allclose(ones, full, atol=1e-6 * scale)


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_are_those_of_finite_differences(name: str):
    model, graph = make_model(name).double(), make_graph()
    x = graph.x.double()
    weight = torch.full((graph.edge_index.shape[1],), 0.7, dtype=torch.double)
    weight.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda w: model(x, graph.edge_index, w), weight)


def test_local_layers_without_weights_are_refused():
    network = models.gps(FEATURES, CLASSES, dim=8, num_heads=2, depth=1, local="gat")
    task = Classification(network, Edges(), num_classes=CLASSES, level="node")
    with pytest.raises(
        ValueError, match="network: got .*GATv2Conv beside attention, expected GCNConv"
    ):
        EdgeWeights(task, make_graph())


def test_edge_features_are_refused():
    graph = make_graph()
    graph.edge_attr = torch.ones(graph.num_edges, 2)
    with pytest.raises(ValueError, match="graph: got features of edges"):
        EdgeWeights(make_model("gat").task, graph)


def test_prbcd_changes_at_most_its_budget_and_lowers_the_margin():
    model, graph = make_model("gat"), make_graph()
    nodes = torch.ones(NODES, dtype=torch.bool)
    y = model(graph.x, graph.edge_index).argmax(1)  # all are right before the attack
    changed = prbcd(
        model, graph.x, graph.edge_index, y, budget=5, nodes=nodes, epochs=15, block_size=60
    )
    before, after = (
        {tuple(sorted(e)) for e in edges.T.tolist()} for edges in (graph.edge_index, changed)
    )
    assert 0 < len(before ^ after) <= 5
    assert is_undirected(changed)
    assert (model(graph.x, changed).argmax(1) == y).float().mean() < 1


@pytest.mark.parametrize(("removed", "added"), [(3, 0), (0, 4), (2, 5)])
def test_random_changes_have_the_given_size(removed: int, added: int):
    graph = make_graph()
    generator = torch.Generator().manual_seed(0)
    changed = perturb_edges(
        graph.edge_index, NODES, removed=removed, added=added, generator=generator
    )
    before, after = (
        {tuple(sorted(e)) for e in edges.T.tolist()} for edges in (graph.edge_index, changed)
    )
    assert len(before - after) == removed
    assert len(after - before) == added
    assert is_undirected(changed)
