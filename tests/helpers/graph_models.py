"""Graph models of all builders, with the data that each reads."""

from __future__ import annotations

import torch
from helpers.awkward import random_edges
from torch import nn
from torch_geometric.data import Data

from graphformer import models
from graphformer.data.graph.encodings import add_encodings
from graphformer.patterns import Edges, Expander, VirtualNode

F_IN, F_EDGE, CLASSES = 5, 3, 7
ENCODINGS = ["laplacian:4", "random_walk:6", "degree:5", "shortest_path:3"]
SPARSE = Edges() | Expander(2) | VirtualNode()


def graph(nodes, count, seed=0):
    """An undirected random graph with all fields of nodes and edges."""
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


def build_model(name):
    """A model with random weights, and its graphs."""
    build, encodings = BUILD[name]
    torch.manual_seed(5)
    model = build()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model, graphs(*encodings)
