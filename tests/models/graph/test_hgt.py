"""The heterogeneous graph transformer against PyG's HGTConv: outputs and gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch_geometric.data import Data, HeteroData
from torch_geometric.nn import HGTConv

from graphformer import models, patterns
from graphformer.adjacency import edge_values
from graphformer.data.graph.own.hetero import from_hetero
from graphformer.models.graph.hgt import TypedAttention, TypedLinear, typed_edges

DIM, HEADS = 15, 3


def library() -> HeteroData:
    """Two types of edges between the same nodes, a repeated edge, a node without edges."""
    torch.manual_seed(0)
    graph = HeteroData()
    for name, count in (("author", 5), ("paper", 7), ("venue", 2)):
        graph[name].x = torch.randn(count, DIM, dtype=torch.float64)
    graph["paper"].y = torch.arange(7) % 3
    edges = {
        ("author", "writes", "paper"): [[0, 4, 1, 2], [1, 6, 1, 1]],
        ("author", "reviews", "paper"): [[0, 4, 3], [1, 6, 2]],
        ("paper", "cites", "paper"): [[0, 1, 5], [1, 1, 0]],
        ("paper", "in", "venue"): [[0, 6, 3], [1, 0, 1]],
        ("venue", "has", "author"): [[0, 1, 1], [0, 4, 2]],
    }
    for edge_type, index in edges.items():
        graph[edge_type].edge_index = torch.tensor(index)
    return graph


def layer_of(conv: HGTConv, graph: HeteroData) -> TypedAttention:
    """Return a layer with PyG's weights, whose order is key, query, value, and head before type."""
    nodes, edges = graph.metadata()
    layer = TypedAttention(
        DIM, HEADS, num_node_types=len(nodes), num_edge_types=len(edges)
    ).double()
    with torch.no_grad():
        for number, name in enumerate(nodes):
            for parameter in ("weight", "bias"):
                k, q, v = getattr(conv.kqv_lin.lins[name], parameter).tensor_split(3)
                getattr(layer.qkv, parameter)[number] = torch.cat([q, k, v])
                getattr(layer.out, parameter)[number] = getattr(conv.out_lin.lins[name], parameter)
            layer.skip[number] = conv.skip[name].item()
        for own, theirs in ((layer.key_map, conv.k_rel), (layer.value_map, conv.v_rel)):
            own.copy_(theirs.weight.unflatten(0, (HEADS, len(edges))).transpose(0, 1))
        for number, edge_type in enumerate(edges):
            layer.prior[number] = conv.p_rel["__".join(edge_type)][0]
    return layer


@pytest.mark.parametrize("backend", ["reference", "auto"])
def test_a_layer_equals_hgt_conv(backend: str) -> None:
    graph = library()
    conv = HGTConv(DIM, DIM, graph.metadata(), heads=HEADS).double()
    with torch.no_grad():
        for parameter in (*conv.p_rel.values(), *conv.skip.values()):
            parameter.uniform_(-1, 1)
    layer, one = layer_of(conv, graph), from_hetero(graph)
    xs = {name: graph[name].x.clone().requires_grad_() for name in graph.node_types}
    expected = torch.cat(list(conv(xs, graph.edge_index_dict).values()))
    x = torch.cat([graph[name].x for name in graph.node_types]).requires_grad_()
    adjacency = patterns.Edges()(one)
    edge_type = torch.arange(5).repeat_interleave(
        torch.tensor([graph[kind].edge_index.shape[1] for kind in graph.edge_types])
    )
    types = edge_values(adjacency, one.edge_index, edge_type)
    actual = layer(x, typed_edges(adjacency, types, 5), one.node_type, backend=backend)
    torch.testing.assert_close(actual, expected)
    weights = torch.randn_like(expected)
    (expected * weights).sum().backward()
    (actual * weights).sum().backward()
    torch.testing.assert_close(x.grad, torch.cat([each.grad for each in xs.values()]))
    grads = layer_of(_with_gradients(conv), graph)
    for name, parameter in layer.named_parameters():
        torch.testing.assert_close(parameter.grad, dict(grads.named_parameters())[name].detach())


def _with_gradients(conv: HGTConv) -> HGTConv:
    """Return the layer with its gradients as weights, so that they are reordered like weights."""
    with torch.no_grad():
        for parameter in conv.parameters():
            grad = parameter.grad
            parameter.copy_(torch.zeros_like(parameter) if grad is None else grad)
    return conv


def test_two_types_between_the_same_nodes_stay_two_edges() -> None:
    one = from_hetero(library())
    one.x = one.x.double()
    adjacency = patterns.Edges()(one)
    assert adjacency.num_edges == one.edge_index.shape[1] == 16
    network = models.hgt(
        3 * DIM, 3, dim=8, depth=1, num_heads=2, num_node_types=3, num_edge_types=5
    ).double()
    with torch.no_grad():
        network.layers[0].prior.uniform_()
    network.eval()
    full = network(one, patterns.Edges())
    kept = one.edge_type != 1  # without the reviews
    fewer = one.clone()
    fewer.edge_index, fewer.edge_type = one.edge_index[:, kept], one.edge_type[kept]
    changed = (network(fewer, patterns.Edges()) - full).abs().amax(1) > 1e-9
    assert changed.nonzero()[:, 0].tolist() == [5 + 1, 5 + 2, 5 + 6]  # the reviewed papers
    # A bias by type is one for each of two parallel edges, too.
    transformer = models.graph_transformer(
        3 * DIM, 3, dim=8, depth=1, num_heads=2, num_node_types=3, num_edge_types=5
    ).double()
    assert transformer(one, patterns.Edges()).shape == (14, 3)


def test_other_adjacencies_have_a_type_of_their_own() -> None:
    one = from_hetero(library())
    one.x = one.x.float()
    network = models.hgt(
        3 * DIM, 3, dim=8, depth=2, num_heads=2, num_node_types=3, num_edge_types=5
    )
    for graph, pattern in (
        (one, patterns.Edges(self_loops=True)),
        (_distinct(one), patterns.SelfLoops()),
        (_distinct(one), patterns.Complete()),
    ):
        output = network(graph, pattern)
        assert output.shape == (14, 3)
        output.sum().backward()
    assert all(p.grad is not None for p in network.parameters())
    assert network.layers[0].prior.grad[5].abs().sum() > 0


def _distinct(graph: Data) -> Data:
    """Return a graph without the second of parallel edges, which the complete graph cannot have."""
    keys = graph.edge_index[0] * 14 + graph.edge_index[1]
    first = torch.tensor([int((keys[:i] == key).sum()) == 0 for i, key in enumerate(keys)])
    graph = graph.clone()
    graph.edge_index, graph.edge_type = graph.edge_index[:, first], graph.edge_type[first]
    return graph


def test_a_linear_map_by_type() -> None:
    linear = TypedLinear(3, 5, 7)
    x, types = torch.randn(11, 5), torch.tensor([2, 0, 0, 2, 0, 2, 2, 0, 0, 0, 2])  # none of type 1
    expected = torch.stack(
        [linear.weight[t] @ row + linear.bias[t] for t, row in zip(types, x, strict=True)]
    )
    torch.testing.assert_close(linear(x, types), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"node_type": torch.full((14,), 3)},
            "node_type: got types from 3 to 3, expected 0 to 2; raise",
        ),
        ({"edge_type": torch.full((16,), 5)}, "edge_type: got types from 5 to 5, expected 0 to 4"),
        ({"node_type": None}, "node_type"),
    ],
)
def test_wrong_types_are_named(change: dict[str, Tensor | None], message: str) -> None:
    one = from_hetero(library())
    one.x = one.x.float()
    one.update(change)
    network = models.hgt(3 * DIM, 3, dim=8, num_heads=2, num_node_types=3, num_edge_types=5)
    with pytest.raises(ValueError, match=message):
        network(one, patterns.Edges())
    with pytest.raises(ValueError, match="num_edge_types: got 0, expected 1 or more"):
        models.hgt(5, 3, num_node_types=3, num_edge_types=0)
