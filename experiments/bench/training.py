"""Training steps of PyG's 2-layer GAT, with and without gf.accelerate."""

from __future__ import annotations

import copy
import os
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric import EdgeIndex
from torch_geometric.nn import GATConv
from torch_geometric.utils import add_self_loops, remove_self_loops

import graphformer as gf
from bench import peers
from bench.timing import Step, check
from graphformer.data import HeterophilousGraph, Planetoid


class GAT2(nn.Module):
    """Two GATConv layers; the second averages its heads, one output per class."""

    def __init__(self, features: int, classes: int, width: int, heads: int, out_heads: int,
                 dropout: float, loops: bool = True) -> None:  # fmt: skip
        super().__init__()
        options = {"dropout": dropout, "add_self_loops": loops}
        self.first = GATConv(features, width, heads=heads, **options)
        self.second = GATConv(width * heads, classes, heads=out_heads, concat=False, **options)
        self.dropout = dropout

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        x = F.dropout(x, self.dropout, self.training)
        x = F.elu(self.first(x, edge_index))
        return self.second(F.dropout(x, self.dropout, self.training), edge_index)


class Wide(nn.Module):
    """Two GATConv layers of `heads` concatenated heads of `width`, and a linear classifier."""

    def __init__(self, features: int, classes: int, width: int, heads: int, out_heads: int,
                 dropout: float, loops: bool = True) -> None:  # fmt: skip
        super().__init__()
        options = {"dropout": dropout, "add_self_loops": loops}
        self.first = GATConv(features, width, heads=heads, **options)
        self.second = GATConv(width * heads, width, heads=out_heads, **options)
        self.out = nn.Linear(width * out_heads, classes)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        x = F.elu(self.first(x, edge_index))
        return self.out(F.elu(self.second(x, edge_index)))


def steps(name: str) -> tuple[dict[str, Step], dict[str, Any]]:
    """Return training steps of each peer on Cora or tolokers, and a description of the work.

    "no edges" is a step without edges; the difference to its time is the share of attention.
    """
    beside = Path(__file__).parents[3] / "shared" / "data"
    root = None if "GRAPHFORMER_DATA" in os.environ or not beside.exists() else str(beside)
    if name == "Cora":
        module: Any = Planetoid("Cora", root=root)
    else:
        module = HeterophilousGraph("Tolokers", root=root)
    module.setup()
    data = module.graph
    sizes = (8, 8, 1, 0.6) if name == "Cora" else (16, 8, 8, 0.0)
    kind = GAT2 if name == "Cora" else Wide
    torch.manual_seed(1)
    theirs = kind(module.num_features, module.num_classes, *sizes)
    looped = kind(module.num_features, module.num_classes, *sizes, loops=False)
    looped.load_state_dict(theirs.state_dict())
    fused = gf.accelerate(copy.deepcopy(theirs), quiet=True)
    nodes = data.num_nodes
    none = data.edge_index[:, :0]
    models: dict[str, tuple[nn.Module, Tensor, bool]] = {
        peers.OURS: (fused, data.edge_index, False),
        peers.PYG: (theirs, data.edge_index, False),
        "PyG, no edges": (copy.deepcopy(looped), none, False),
        "graphformer, no edges": (gf.accelerate(copy.deepcopy(looped), quiet=True), none, False),
    }
    if peers.HAS_SCATTER:
        edges, _ = add_self_loops(remove_self_loops(data.edge_index)[0], num_nodes=nodes)
        by_target = EdgeIndex(edges, sparse_size=(nodes, nodes)).sort_by("col").values
        models[peers.PYG_SCATTER] = (looped, by_target, True)
    _check({k: v for k, v in models.items() if "no edges" not in k}, data.x)
    work = {
        "nodes": nodes, "edges": data.edge_index.shape[1], "features": data.x.shape[1],
        "layers": f"{sizes[1]} heads of {sizes[0]}, then {sizes[2]} heads", "dropout": sizes[3],
    }  # fmt: skip
    return {name: _step(*model, data) for name, model in models.items()}, work


def _check(models: dict[str, tuple[nn.Module, Tensor, bool]], x: Tensor) -> None:
    """Compare outputs and gradients of the models in evaluation mode."""
    expected = None
    for name in sorted(models, key=lambda name: name != peers.PYG):
        model, edge_index, scatter = models[name]
        model.eval()

        def call(*parameters: Tensor, m: nn.Module = model, e: Tensor = edge_index) -> Tensor:
            return m(x, e)

        with peers.scatter_flag(scatter):
            first = list(model.parameters())[:3]
            gradient = torch.ones(len(x), 1).expand_as(model(x, edge_index)) / len(x)
            results = check(call, first, gradient, expected)
        expected = expected or results
        model.train()


def _step(model: nn.Module, edge_index: Tensor, scatter: bool, data: Any) -> Step:
    optimiser = torch.optim.Adam(model.parameters(), lr=0.005)

    def step() -> tuple[float, float]:
        start = time.perf_counter()
        with peers.scatter_flag(scatter):
            optimiser.zero_grad()
            out = model(data.x, edge_index)
            loss = F.cross_entropy(out[data.train_mask], data.y[data.train_mask])
            middle = time.perf_counter()
            loss.backward()
            optimiser.step()
        return middle - start, time.perf_counter() - start

    return step
