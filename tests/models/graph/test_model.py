"""Builders of graph models: what they answer, what they are blind to, and swapped adjacencies."""

from __future__ import annotations

import pytest
import torch
from helpers.awkward import random_edges
from torch import nn
from torch.nn import functional as F
from torch_geometric.data import Batch, Data, HeteroData

import graphformer as gf
from graphformer import models
from graphformer.data.graph.encodings import add_encodings
from graphformer.patterns import Complete, Edges, Expander, SelfLoops, VirtualNode, Window

F_IN, F_EDGE, CLASSES = 5, 3, 7
ENCODINGS = ["laplacian:4", "random_walk:6", "degree:5", "shortest_path:3"]
SPARSE = Edges() | Expander(2) | VirtualNode()


def graph(nodes, count, seed=0):
    edges = random_edges(nodes, nodes, count, seed)
    edges = torch.cat([edges, edges.flip(0)], dim=1).unique(dim=1)
    count, generator = edges.shape[1], torch.Generator().manual_seed(seed + nodes)
    return Data(
        x=torch.randn(nodes, F_IN, generator=generator),
        edge_index=edges,
        edge_attr=torch.randn(count, F_EDGE, generator=generator),
        edge_type=torch.randint(2, (count,), generator=generator),
        edge_weight=torch.rand(count, generator=generator),
        node_type=torch.randint(3, (nodes,), generator=generator),
    )


def graphs(*encodings):
    """11, 1 and 7 nodes; the second has no edges, the third isolated nodes."""
    return add_encodings([graph(11, 17), graph(1, 0), graph(7, 3, seed=2)], encodings)


RICH = {
    "num_edge_features": F_EDGE,
    "num_edge_types": 2,
    "num_union_parts": 2,
    "num_node_types": 3,
    "weighted": True,
    "separate_ego": True,
    "input_activation": True,
    "encodings": ENCODINGS,
}
BUILD = {
    "gat-graphs": (
        lambda: models.gat(F_IN, CLASSES, 4, 3, 2, pool="mean", jump="cat", dropout=0),
        [],
    ),
    "gat-pairs": (lambda: models.gat(F_IN, 1, 4, 2, 2, pairs="dot", dropout=0), []),
    "gat-rich": (
        lambda: models.gat(
            F_IN, CLASSES, 4, 3, 2, out_heads=3, dropout=0, num_edge_features=F_EDGE,
            num_union_parts=2, weighted=True,
        ),
        [],
    ),
    "residual-rich": (
        lambda: models.residual_gat(
            F_IN, CLASSES, 12, 3, 3, dropout=0, v2=True, num_edge_features=F_EDGE,
            num_union_parts=2, weighted=True,
        ),
        [],
    ),
    "residual": (lambda: models.residual_gat(F_IN, CLASSES, 12, 3, 3, dropout=0), []),
    "residual-sep": (
        lambda: models.residual_gat(
            F_IN, CLASSES, 12, 3, 3, dropout=0, separate_ego=True, v2=True, jump="max",
            num_node_types=3, encodings=["random_walk:6"], pool="sum",
        ),
        ["random_walk:6"],
    ),
    "transformer": (lambda: models.graph_transformer(F_IN, CLASSES, 12, 2, 3), []),
    "transformer-rich": (
        lambda: models.graph_transformer(F_IN, CLASSES, 12, 2, 3, **RICH),
        ENCODINGS,
    ),
    "transformer-bias": (
        lambda: models.graph_transformer(
            F_IN, CLASSES, 12, 2, 3, num_edge_features=F_EDGE, edge_bias=True, pool="set",
            jump="cat",
        ),
        [],
    ),
    "graphormer": (
        lambda: models.graphormer(
            F_IN, CLASSES, 12, 2, 3, max_degree=5, max_distance=3, num_edge_features=F_EDGE,
            dropout=0, attention_dropout=0,
        ),
        ENCODINGS,
    ),
    "gps": (
        lambda: models.gps(
            F_IN, CLASSES, 12, 2, 3, num_edge_features=F_EDGE, pool="attention",
            encodings=ENCODINGS, attention_dropout=0,
        ),
        ENCODINGS,
    ),
    "gps-gat": (
        lambda: models.gps(
            F_IN, CLASSES, 12, 2, 3, local="gat", num_edge_features=F_EDGE, attention_dropout=0,
            pairs="mlp",
        ),
        [],
    ),
    "exphormer": (
        lambda: models.exphormer(
            F_IN, CLASSES, 12, 2, 3, num_union_parts=2, num_node_types=3, pool="mean",
            dropout=0, attention_dropout=0,
        ),
        [],
    ),
    "attention-alone": (
        lambda: models.exphormer(
            F_IN, CLASSES, 12, 2, 3, local=None, num_union_parts=2, dropout=0, attention_dropout=0
        ),
        [],
    ),
}  # fmt: skip


def made(name):
    build, encodings = BUILD[name]
    torch.manual_seed(5)
    model = build()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model, graphs(*encodings)


@pytest.mark.parametrize("name", BUILD)
def test_learning_reaches_every_weight(name):
    model, data = made(name)
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
def test_a_batch_is_its_graphs_under_any_adjacency(name, pattern):
    model, data = made(name)
    model = model.double().eval()
    for graph in data:
        for key, value in graph.to_dict().items():
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                graph[key] = value.double()
    batch = Batch.from_data_list(data)
    together = model(batch, pattern(batch))
    alone = [model(graph, pattern(graph)) for graph in data]
    torch.testing.assert_close(together, torch.cat(alone))


@pytest.mark.parametrize("name", [name for name in BUILD if name != "gat-pairs"])
@pytest.mark.parametrize("pattern", [Edges(), Complete()], ids=str)
def test_numbering_means_nothing(name, pattern):
    model, (data, *_) = made(name)
    model = model.eval()
    order = torch.randperm(11, generator=torch.Generator().manual_seed(3))
    other = data.clone()
    for key in ("x", "node_type", "laplacian_pe", "random_walk_pe", "in_degree", "out_degree"):
        if key in data:
            other[key] = data[key][order]
    place = order.argsort()
    shuffle = torch.randperm(data.num_edges, generator=torch.Generator().manual_seed(5))
    other.edge_index = place[data.edge_index][:, shuffle]
    for key in ("edge_attr", "edge_type", "edge_weight"):
        other[key] = data[key][shuffle]
    if "path_index" in data:  # the paths themselves: of several as short any may be found
        other.path_index = place[data.path_index.long()]
    expected, found = model(data, pattern(data)), model(other, pattern(other))
    if BUILD[name][0]().head.__class__.__name__ == "PairHead":
        found = found[shuffle.argsort()]
    elif len(expected) == 11:
        found = found[place]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_exphormer_on_its_own_union_and_on_edges_alone():
    model = models.exphormer(F_IN, CLASSES, 12, 2, 3, encodings=["virtual_node"], pool="last")
    data = graphs("virtual_node")
    batch = Batch.from_data_list(data)
    model.eval()
    with torch.no_grad():
        model.edges.biases[0].table.normal_()
    outs = [model(batch, p(batch)) for p in (SPARSE, Edges(), Complete())]
    assert all(out.shape == (3, CLASSES) for out in outs)
    assert not torch.allclose(outs[0], outs[1])
    unbiased = model(batch, gf.from_edge_index(SPARSE(batch).edge_index, batch.num_nodes))
    assert not torch.allclose(outs[0], unbiased), "the kinds of edges count"
    with pytest.raises(ValueError, match="a union of 3 kinds of edges"):
        model(batch, (Edges() | VirtualNode())(batch))


def test_gat_of_old_is_what_it_was():
    """Neither pooled nor paired, the last layer gives the logits, heads averaged."""
    model = models.gat(F_IN, CLASSES, out_heads=3)
    assert model.head is None
    assert model.layers[-1].heads == (3, CLASSES)


@pytest.mark.parametrize("build", [models.gat, models.gcn, models.graph_transformer])
def test_an_edge_index_or_a_pattern_in_place_of_an_adjacency(build):
    data, model = graph(11, 17), build(F_IN, CLASSES, 12).eval()
    expected = model(data, Edges()(data))
    torch.testing.assert_close(model(data, data.edge_index), expected)
    torch.testing.assert_close(model(data, Edges()), expected)


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
    with pytest.raises(ValueError, match=r"nodes of several types: pass batch\.to_homogeneous\(\)"):
        Edges()(hetero)
    with pytest.raises(TypeError, match=r"got HeteroData: pass data\.to_homogeneous\(\)"):
        add_encodings([hetero], ["degree:3"])
    data = hetero.to_homogeneous()
    model = models.graph_transformer(
        F_IN, CLASSES, 12, 2, 3, num_node_types=2, num_edge_types=2
    ).eval()
    with torch.no_grad():
        model.edges.biases[0].table.normal_()
    out = model(data, Edges()(data))
    assert out.shape == (8, CLASSES)
    data.edge_type = 1 - data.edge_type
    assert not torch.allclose(model(data, Edges()(data))[4], out[4]), "edge types count"
    data.node_type = 1 - data.node_type
    assert not torch.allclose(model(data, Edges()(data))[0], out[0]), "node types count"


def test_weights_and_directions_count():
    model = models.graph_transformer(F_IN, CLASSES, 12, 1, 3, weighted=True).eval()
    nn.init.normal_(model.transformer.blocks[0].attention.qkv.weight)
    data = graph(11, 17)
    out = model(data, Edges()(data))
    heavier = data.clone()
    heavier.edge_weight = data.edge_weight * 3
    assert not torch.allclose(model(heavier, Edges()(heavier)), out)
    one_way = Data(x=data.x, edge_index=torch.tensor([[0], [1]]), edge_weight=torch.ones(1))
    alone = model(one_way, Edges()(one_way))
    one_way.x = data.x.clone()
    one_way.x[1] += 1
    changed = model(one_way, Edges()(one_way))
    assert torch.equal(changed[0], alone[0]), "0 does not hear from 1"


def test_several_adjacencies():
    data = graph(11, 17)
    each = [Edges()(data), Complete()(data)]
    model = models.graph_transformer(F_IN, CLASSES, 12, 2, 3)
    assert model(data, each).shape == (11, CLASSES)
    model = models.graph_transformer(F_IN, CLASSES, 12, 2, 3, num_edge_types=2)
    with pytest.raises(ValueError, match="adjacency must be one for all blocks .* got 2"):
        model(data, each)


def test_errors():
    with pytest.raises(ValueError, match="num_heads must divide dim, got 5 and 12"):
        models.residual_gat(F_IN, CLASSES, 12, 2, 5)
    with pytest.raises(ValueError, match="local must be 'gin', 'gcn', 'gat' or None, got 'gcnii'"):
        models.gps(F_IN, CLASSES, 12, local="gcnii")
    with pytest.raises(ValueError, match="edge_bias needs num_edge_features"):
        models.graph_transformer(F_IN, CLASSES, edge_bias=True)
    with pytest.raises(ValueError, match="pool must be one of mean, sum, .*, got 'avg'"):
        models.graph_transformer(F_IN, CLASSES, pool="avg")
    with pytest.raises(ValueError, match="jump: got 'sum', expected 'last', 'cat' or 'max'"):
        models.gat(F_IN, CLASSES, jump="sum")
    with pytest.raises(ValueError, match="depth must be at least 1, got 0"):
        models.gat(F_IN, CLASSES, depth=0)
    model = models.graphormer(F_IN, CLASSES, 12, 1, 3)
    data = graph(11, 17)
    with pytest.raises(ValueError, match="the model needs the encoding 'shortest_path:5'"):
        model(data, Complete()(data))
    model = models.gps(F_IN, CLASSES, 12, 1, 3)
    with pytest.raises(
        ValueError, match=r"batch\.edge_index: got None, expected a tensor; the model"
    ):
        model(Data(x=torch.randn(3, F_IN)), gf.complete(3))
