"""GAT and residual GAT: the published form, heads and pooling, one adjacency for each layer."""

from __future__ import annotations

import pytest
import torch
from helpers.graph_models import CLASSES, F_IN, graph
from torch.nn import functional as F

from graphformer import models
from graphformer.patterns import Complete, Edges, PerLayer


def test_the_published_network_is_its_formula():
    """No head: the last layer averages its heads, and ELU follows the hidden layers only."""
    model = models.gat(F_IN, CLASSES, 4, 3, 2, out_heads=5).eval()
    assert model.head is None
    assert [layer.heads for layer in model.layers] == [(2, 4), (2, 4), (5, CLASSES)]
    data = graph(11, 17)
    adjacency = Edges(self_loops=True)(data)
    x = data.x
    for layer in model.layers[:-1]:
        x = F.elu(layer(x, adjacency))
    torch.testing.assert_close(model(data, adjacency), model.layers[-1](x, adjacency))


@pytest.mark.parametrize(("jump", "width"), [("last", 8), ("cat", 24), ("max", 8)])
def test_a_head_reads_the_combined_layers(jump, width):
    model = models.gat(F_IN, CLASSES, 4, 3, 2, pool="mean", jump=jump)
    assert model.layers[-1].heads == (2, 4)
    assert model.head.linear.in_features == width
    assert model(graph(11, 17), Edges()).shape == (1, CLASSES)


def test_each_layer_may_have_an_adjacency():
    model = models.gat(F_IN, CLASSES, 4, 2, 2).eval()
    data = graph(11, 17)
    out = model.with_adjacency([Edges(), Complete()])(data)
    torch.testing.assert_close(out, model(data, PerLayer((Edges(), Complete()))))
    assert not torch.allclose(out, model(data, [Complete(), Edges()]))
    with pytest.raises(ValueError, match="pattern: got 3 patterns, expected one, or one for each"):
        model.with_adjacency([Edges()] * 3)


@pytest.mark.parametrize("options", [{"num_edge_features": 3}, {"weighted": True}], ids=str)
def test_edge_values_change_the_output(options):
    model = models.gat(F_IN, CLASSES, 4, 2, 2, **options).eval()
    data = graph(11, 17)
    out = model(data, Edges())
    data.edge_attr, data.edge_weight = data.edge_attr * 3, data.edge_weight * 3
    assert not torch.allclose(model(data, Edges()), out)


def test_errors():
    with pytest.raises(ValueError, match="jump: got 'sum', expected 'last', 'cat' or 'max'"):
        models.gat(F_IN, CLASSES, jump="sum")
    with pytest.raises(ValueError, match="depth: got 0, expected 1 or more"):
        models.gat(F_IN, CLASSES, depth=0)
    with pytest.raises(ValueError, match="num_heads: got 5, expected a divisor of dim 12"):
        models.residual_gat(F_IN, CLASSES, 12, 2, 5)


def test_the_old_keyword_of_union_parts_warns():
    with pytest.warns(FutureWarning, match="num_edge_kinds of gat is now called num_union_parts"):
        model = models.gat(F_IN, CLASSES, num_edge_kinds=2)
    assert [name for name, _ in model.named_parameters() if "table" in name] == [
        "edges.0.biases.0.table",
        "edges.1.biases.0.table",
    ]
