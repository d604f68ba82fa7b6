"""Properties of all graph models: training, batching, node order, adjacency forms."""

from __future__ import annotations

import pytest
import torch
from helpers.graph_models import BUILD, CLASSES, F_IN, build_model, graph
from torch import nn
from torch.nn import functional as F
from torch_geometric.data import Batch, Data, HeteroData

import graphformer as gf
from graphformer import models
from graphformer.patterns import Complete, Edges, SelfLoops, Window


@pytest.mark.parametrize("name", BUILD)
def test_training_changes_every_weight(name):
    model, data = build_model(name)
    batch = Batch.from_data_list(data)
    adjacency = (Edges(self_loops=True) | Window(1))(batch)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    losses = []
    for _ in range(4):
        logits = model(batch, adjacency)
        labels = torch.arange(len(logits)) % logits.shape[1]
        if logits.shape[1] == 1:
            loss = F.binary_cross_entropy_with_logits(
                logits[:, 0], (torch.arange(len(logits)) % 2).float()
            )
        else:
            loss = F.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("name", BUILD)
@pytest.mark.parametrize("pattern", [Edges(), Complete(), Edges() | SelfLoops()], ids=str)
def test_a_batch_equals_its_graphs_under_any_adjacency(name, pattern):
    model, data = build_model(name)
    model = model.double().eval()
    for one in data:
        for key, value in one.to_dict().items():
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                one[key] = value.double()
    batch = Batch.from_data_list(data)
    together = model(batch, pattern(batch))
    alone = [model(one, pattern(one)) for one in data]
    torch.testing.assert_close(together, torch.cat(alone))


@pytest.mark.parametrize("name", [name for name in BUILD if name != "gat-pairs"])
@pytest.mark.parametrize("pattern", [Edges(), Complete()], ids=str)
def test_outputs_are_equivariant_to_the_order_of_nodes_and_edges(name, pattern):
    model, (data, *_) = build_model(name)
    model = model.eval()
    order = torch.randperm(11, generator=torch.Generator().manual_seed(3))
    other = data.clone()
    for key in ("x", "node_type", "laplacian_pe", "random_walk_pe", "in_degree", "out_degree"):
        if key in data:
            other[key] = data[key][order]
    inverse = order.argsort()
    shuffle = torch.randperm(data.num_edges, generator=torch.Generator().manual_seed(5))
    other.edge_index = inverse[data.edge_index][:, shuffle]
    for key in ("edge_attr", "edge_type", "edge_weight"):
        other[key] = data[key][shuffle]
    if "path_index" in data:  # the same paths: of several shortest ones any may be found
        other.path_index = inverse[data.path_index.long()]
    expected, found = model(data, pattern(data)), model(other, pattern(other))
    if type(model.head).__name__ == "PairHead":
        found = found[shuffle.argsort()]
    elif len(expected) == 11:
        found = found[inverse]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("build", [models.gat, models.gcn, models.graph_transformer])
def test_the_adjacency_may_be_a_pattern_an_edge_index_or_the_default(build):
    data, model = graph(11, 17), build(F_IN, CLASSES, 12).eval()
    expected = model(data, Edges()(data))
    torch.testing.assert_close(model(data, data.edge_index), expected)
    torch.testing.assert_close(model(data, Edges()), expected)
    default = model.with_adjacency(Edges())
    torch.testing.assert_close(default(data), expected)
    torch.testing.assert_close(default(data, Complete()), model(data, Complete()))
    assert model.adjacency is None
    assert [id(p) for p in default.parameters()] == [id(p) for p in model.parameters()]
    with pytest.raises(ValueError, match="adjacency: got None, and the model has no default"):
        model(data)


@pytest.mark.parametrize("build", [models.gps, models.exphormer, models.gcn])
@pytest.mark.parametrize("nodes", [0, 1])
def test_a_batch_of_one_node_or_none_trains(build, nodes):
    options = {"norm": "batch"} if build is models.gcn else {}
    model = build(F_IN, CLASSES, 12, 2, pool="mean", **options)
    data = Batch.from_data_list([graph(nodes, 0) if nodes else Data(x=torch.zeros(0, F_IN))])
    data.edge_index = torch.empty(2, 0, dtype=torch.int64)
    out = model(data, Edges())
    assert out.shape == (1, CLASSES)
    out.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_heterogeneous_graphs_by_their_homogeneous_form():
    hetero = HeteroData()
    hetero["author"].x, hetero["paper"].x = torch.randn(3, F_IN), torch.randn(5, F_IN)
    hetero["author", "writes", "paper"].edge_index = torch.tensor([[0, 1, 2, 2], [0, 1, 1, 4]])
    hetero["paper", "cites", "paper"].edge_index = torch.tensor([[0, 1], [1, 3]])
    with pytest.raises(ValueError, match=r"batch\.to_homogeneous\(\)"):
        Edges()(hetero)
    data = hetero.to_homogeneous()
    model = models.graph_transformer(
        F_IN, CLASSES, 12, 2, 3, num_node_types=2, num_edge_types=2
    ).eval()
    with torch.no_grad():
        model.edges.biases[0].table.normal_()
    out = model(data, Edges()(data))
    assert out.shape == (8, CLASSES)
    data.edge_type = 1 - data.edge_type
    assert not torch.allclose(model(data, Edges()(data))[4], out[4]), "edge types are read"
    data.node_type = 1 - data.node_type
    assert not torch.allclose(model(data, Edges()(data))[0], out[0]), "node types are read"


def test_the_adjacency_is_resolved_once():
    class Counted(Edges):
        calls = 0

        def __call__(self, batch):
            Counted.calls += 1
            return super().__call__(batch)

    data = graph(11, 17)
    models.graph_transformer(F_IN, CLASSES, 12, 2, 3, weighted=True)(data, Counted())
    assert Counted.calls == 1


def test_one_adjacency_for_each_block():
    data = graph(11, 17)
    each = [Edges()(data), Complete()(data)]
    model = models.graph_transformer(F_IN, CLASSES, 12, 2, 3).eval()
    out = model(data, each)
    torch.testing.assert_close(out, model.with_adjacency([Edges(), Complete()])(data))
    assert not torch.allclose(out, model(data, each[::-1]))
    model = models.graph_transformer(F_IN, CLASSES, 12, 2, 3, num_edge_types=2)
    with pytest.raises(ValueError, match="adjacency: got 2, one for each block, expected a single"):
        model(data, each)


def test_a_misspelt_option_is_refused_by_name():
    model, data = models.graph_transformer(F_IN, CLASSES, 12, 2, 3), graph(11, 17)
    with pytest.raises(TypeError, match="option 'edge_wieght': did you mean 'edge_weight'"):
        model(data, Edges(), edge_wieght=torch.ones(3))


def test_a_missing_edge_index_is_named():
    model = models.gps(F_IN, CLASSES, 12, 1, 3)
    with pytest.raises(ValueError, match=r"batch\.edge_index.*passes messages along edges"):
        model(Data(x=torch.randn(3, F_IN)), gf.complete(3))


def test_messages_follow_the_direction_of_edges():
    model = models.graph_transformer(F_IN, CLASSES, 12, 1, 3, weighted=True).eval()
    nn.init.normal_(model.transformer.blocks[0].attention.qkv.weight)
    data = graph(11, 17)
    one_way = Data(x=data.x, edge_index=torch.tensor([[0], [1]]), edge_weight=torch.ones(1))
    alone = model(one_way, Edges()(one_way))
    one_way.x = data.x.clone()
    one_way.x[1] += 1
    changed = model(one_way, Edges()(one_way))
    assert torch.equal(changed[0], alone[0]), "node 0 has no in-edge from node 1"
    assert not torch.equal(changed[1], alone[1])
