"""Train on a synthetic graph of 2 million nodes and 40 million edges in bounded memory.

    python experiments/large_graph.py --nodes 2000000 --degree 20

Nodes have 16 classes, and four in five edges stay within a class; features are noise plus a weak
signal of the class, so that the neighbours are needed. A GAT of two layers is trained on sampled
neighbourhoods, or on random clusters with --clusters, and evaluated on the test nodes layer by
layer with all edges. Seconds and peak memory are printed after each step.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from graphformer.cli.console import quiet
from graphformer.cli.profiling import peak_resident_memory
from graphformer.data.graph.neighbor_loader import NeighborNodes
from graphformer.data.graph.node_datasets import FullGraph
from graphformer.models import gat
from graphformer.patterns import Edges
from graphformer.tasks import Classification
from graphformer.tasks.graph.layerwise import predict_whole_graph

CLASSES = 16


class SyntheticGraph(FullGraph):
    """Nodes of equally large classes with `degree` in-edges, four in five from the same class."""

    def __init__(self, num_nodes: int, degree: int, num_features: int, seed: int = 0) -> None:
        super().__init__()
        self.shape = num_nodes, degree, num_features
        self.seed = seed

    def read(self) -> Data:
        nodes, degree, width = self.shape
        generator = np.random.default_rng(self.seed)
        y = generator.integers(CLASSES, size=nodes, dtype=np.int64)
        members = np.argsort(y, kind="stable")
        first = np.searchsorted(y[members], np.arange(CLASSES + 1))
        edges = np.empty((2, nodes * degree), dtype=np.int64)
        for column in range(degree):  # one column at a time avoids a second array of all edges
            within = y if column < 0.8 * degree else generator.integers(CLASSES, size=nodes)
            size = first[within + 1] - first[within]
            drawn = first[within] + (generator.random(nodes) * size).astype(np.int64)
            edges[0, column::degree] = members[drawn]
            edges[1, column::degree] = np.arange(nodes)
        x = torch.from_numpy(generator.standard_normal((nodes, width), dtype=np.float32))
        x[torch.arange(nodes), torch.from_numpy(y)] += 1.0
        split = torch.from_numpy(generator.integers(20, size=nodes))  # 5 % train, 5 % validate
        masks = {"train_mask": split == 0, "val_mask": split == 1, "test_mask": split == 2}
        return Data(x=x, y=torch.from_numpy(y), edge_index=torch.from_numpy(edges), **masks)


class Measurements(dict[str, float]):
    """Measurements that are printed when they are set."""

    def __setitem__(self, name: str, value: float) -> None:
        super().__setitem__(name, value)
        shown = f"{value / 2**30:.2f} GiB" if name.startswith("memory") else f"{value:,}"
        print(f"{name:24} {shown}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=2_000_000)
    parser.add_argument("--degree", type=int, default=20)
    parser.add_argument("--features", type=int, default=32)
    parser.add_argument("--fanouts", type=int, nargs="+", default=[10, 10])
    parser.add_argument("--batch_size", type=int, default=1024)
    parser.add_argument("--clusters", type=int)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--output", type=Path, help="a .json file for the measurements")
    options = parser.parse_args()
    pl.seed_everything(0, verbose=False)
    measured = Measurements()
    measured["nodes"], measured["edges"] = options.nodes, options.nodes * options.degree

    start = time.perf_counter()
    source = SyntheticGraph(options.nodes, options.degree, options.features)
    source.setup()
    measured["seconds_graph"], start = _since(start)
    measured["memory_graph"] = peak_resident_memory()
    data = NeighborNodes(source, options.fanouts, options.batch_size, clusters=options.clusters)
    data.setup()
    measured["seconds_adjacency"], start = _since(start)
    measured["memory_adjacency"] = peak_resident_memory()

    network = gat(options.features, CLASSES, dim=16, num_heads=4, dropout=0.1)
    task = Classification(network, Edges(), num_classes=CLASSES, level="node", lr=5e-3)
    with quiet():
        trainer = pl.Trainer(
            max_steps=options.steps,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
            limit_val_batches=10,
            num_sanity_val_steps=0,
        )
        trainer.fit(task, data)
    measured["steps"] = trainer.global_step
    measured["seconds_training"], start = _since(start)
    measured["memory_training"] = peak_resident_memory()

    graph, adjacency = data.source.graph, data.adjacency
    assert graph is not None
    assert adjacency is not None
    outputs = predict_whole_graph(task.network, graph, adjacency)
    measured["seconds_inference"], _ = _since(start)
    measured["memory"] = peak_resident_memory()
    measured["test_accuracy"] = _accuracy(outputs, graph)
    measured["accuracy_without_edges"] = _accuracy(graph.x[:, :CLASSES], graph)
    if options.output:
        options.output.write_text(json.dumps(measured, indent=2) + "\n")


def _accuracy(outputs: Tensor, graph: Data) -> float:
    is_correct = outputs.argmax(1) == graph.y
    return round(is_correct[graph.test_mask].float().mean().item(), 4)


def _since(start: float) -> tuple[float, float]:
    now = time.perf_counter()
    return round(now - start, 1), now


if __name__ == "__main__":
    main()
