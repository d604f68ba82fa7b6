"""GPS and Exphormer: local layers, biases of union parts, other adjacencies."""

from __future__ import annotations

import pytest
import torch
from helpers.graph_models import CLASSES, F_EDGE, F_IN, SPARSE, graph, graphs
from torch_geometric.data import Batch

import graphformer as gf
from graphformer import models
from graphformer.nn.graph import HybridBlock
from graphformer.patterns import Complete, Edges, SelfLoops, VirtualNode


def test_exphormer_on_its_own_union_and_on_other_adjacencies():
    model = models.exphormer(F_IN, CLASSES, 12, 2, 3, encodings=["virtual_node"], pool="last")
    batch = Batch.from_data_list(graphs("virtual_node"))
    model.eval()
    with torch.no_grad():
        model.edges.biases[0].table.normal_()
    outs = [model(batch, p(batch)) for p in (SPARSE, Edges(), Complete())]
    assert all(out.shape == (3, CLASSES) for out in outs)
    assert not torch.allclose(outs[0], outs[1])
    unbiased = model(batch, gf.from_edge_index(SPARSE(batch).edge_index, batch.num_nodes))
    assert not torch.allclose(outs[0], unbiased), "each part has its bias"
    with pytest.raises(ValueError, match="got a union of 2 parts, expected 3"):
        model(batch, (Edges() | VirtualNode())(batch))


@pytest.mark.parametrize("local", ["gin", "gcn", "gat"])
def test_local_layers_read_the_edges_whatever_the_adjacency(local):
    model = models.gps(F_IN, CLASSES, 12, 2, 3, local=local).eval()
    data = graph(11, 17)
    out = model(data, SelfLoops())
    data.edge_index = data.edge_index[:, :-4]
    assert not torch.allclose(model(data, SelfLoops()), out)


def test_without_a_local_layer_edges_are_not_read():
    model = models.gps(F_IN, CLASSES, 12, 2, 3, local=None).eval()
    assert not any(isinstance(block, HybridBlock) for block in model.transformer.blocks)
    data = graph(11, 17)
    out = model(data, Complete())
    data.edge_index = data.edge_index[:, :-4]
    assert torch.equal(model(data, Complete()), out)


@pytest.mark.parametrize("local", ["gin", "gat"])
def test_local_layers_read_edge_features(local):
    model = models.gps(F_IN, CLASSES, 12, 1, 3, local=local, num_edge_features=F_EDGE).eval()
    with torch.no_grad():
        model.edges.biases[0].linear.weight.zero_()
    data = graph(11, 17)
    out = model(data, Complete())
    data.edge_attr = data.edge_attr + 1
    assert not torch.allclose(model(data, Complete()), out)


def test_an_unknown_local_layer_is_refused():
    with pytest.raises(
        ValueError, match="local: got 'gcnii', expected 'gin', 'gcn', 'gat' or None"
    ):
        models.gps(F_IN, CLASSES, 12, local="gcnii")
