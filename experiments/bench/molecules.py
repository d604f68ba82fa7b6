"""Training steps of GPS on batches of molecule-sized graphs against PyG's `GPSConv`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import cycle
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Batch, Data
from torch_geometric.nn import GINConv, GPSConv, global_mean_pool

from bench.cases import Case, Options, Target
from bench.peers import OURS, PYG
from bench.timing import Step, interleaved, ratios
from graphformer.models import gps
from graphformer.patterns import Complete

FEATURES, CLASSES, DIM, DEPTH, HEADS = 16, 2, 64, 5, 4
BATCHES = 8


class TheirGPS(nn.Module):
    """Blocks of `GPSConv` around `GINConv`, mean pooling and a linear classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(FEATURES, DIM)
        self.blocks = nn.ModuleList(
            GPSConv(DIM, GINConv(_mlp()), heads=HEADS, dropout=0.0) for _ in range(DEPTH)
        )
        self.last = nn.Linear(DIM, CLASSES)

    def forward(self, batch: Any) -> Tensor:
        x = self.first(batch.x)
        for block in self.blocks:
            x = block(x, batch.edge_index, batch=batch.batch)
        return self.last(global_mean_pool(x, batch.batch))


def molecules(options: Options) -> Iterator[Case]:
    """Forward and backward on 32 trees of 12 to 36 nodes; a new batch in each step."""
    torch.manual_seed(1)
    batches = [_batch(seed) for seed in range(BATCHES)]
    pattern = Complete()
    options_of_ours: dict[str, Any] = {"local": "gin", "pool": "mean", "attention_dropout": 0.0}
    ours = gps(FEATURES, CLASSES, DIM, DEPTH, HEADS, **options_of_ours)
    theirs = TheirGPS()
    steps = {
        OURS: _step(lambda batch: ours(batch, pattern), batches),
        PYG: _step(theirs, batches),
    }
    sizes = {"graphs": 32, "nodes": batches[0].num_nodes, "edges": batches[0].num_edges}
    case = Case(f"GPS, {DEPTH} blocks of {HEADS} x {DIM // HEADS}, 32 molecules", sizes)
    for peer, model in ((OURS, ours), (PYG, theirs)):
        case.facts[f"parameters of {peer}"] = sum(p.numel() for p in model.parameters())
    case.peers = ratios(interleaved(steps, options.seconds, **options.rounds), OURS)
    case.targets = [Target(f"{case.name}, against PyG's GPSConv", 1.5, case.ratio(PYG))]
    yield case


def _step(model: Any, batches: list[Any]) -> Step:
    following = cycle(batches)

    def step() -> tuple[float, float]:
        start = middle = time.perf_counter()
        forward = 0.0
        for _ in batches:
            batch = next(following)
            begin = time.perf_counter()
            loss = F.cross_entropy(model(batch), batch.y)
            middle = time.perf_counter()
            forward += middle - begin
            loss.backward()
        return forward / BATCHES, (time.perf_counter() - start) / BATCHES

    return step


def _mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(DIM, DIM), nn.ReLU(), nn.Linear(DIM, DIM))


def _batch(seed: int) -> Any:
    """Random trees, with their edges in both directions."""
    generator = torch.Generator().manual_seed(seed)
    graphs = []
    for size in torch.randint(12, 37, (32,), generator=generator).tolist():
        child = torch.arange(1, size)
        parent = (torch.rand(size - 1, generator=generator) * child).long()
        edges = torch.stack([torch.cat([child, parent]), torch.cat([parent, child])])
        x = torch.randn(size, FEATURES, generator=generator)
        y = torch.randint(CLASSES, (1,), generator=generator)
        graphs.append(Data(x=x, edge_index=edges, y=y))
    return Batch.from_data_list(graphs)
