"""Train on one graph of 2 million edges that is divided among processes; compare with one process.

    python experiments/partitioned_graph.py data/square --processes 1
    python experiments/partitioned_graph.py data/square --processes 4

The nodes are points of a square with random numbers; each has edges from 10 nodes near it. The
folder is written if it does not exist: once as the points are numbered, and again with the nodes in
the reverse Cuthill-McKee order, so that a range of nodes is a part with few edges from others. A
graph transformer of two layers is trained on all nodes. Each run prints the losses and, for each
process, the peak of anonymous memory (RssAnon) before the first step, and while training. With
`--in_memory` each process reads the whole graph before it keeps its part.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from measuring import AnonymousMemory, anonymous_memory, silent_trainer
from torch_geometric.data import Data

from graphformer.data import FullGraph, MemoryMappedGraph, convert_arrays
from graphformer.data.graph.out_of_core.folder import GraphFolder
from graphformer.data.graph.out_of_core.reorder import reorder_graph
from graphformer.data.graph.out_of_core.stores import stored_adjacency
from graphformer.distributed import Partitioned, PartitionedGraph, data_parallel, order_nodes
from graphformer.models import graph_transformer
from graphformer.tasks import Classification

SPLITS = ("train", "val", "test")


def write(folder: Path, side: int, degree: int = 10, features: int = 64) -> None:
    """Write points of a square with edges from points near them; classes are strips of it."""
    generator = np.random.default_rng(0)
    nodes = side**2
    name = generator.permutation(nodes)
    rows, columns = np.divmod(np.arange(nodes).repeat(degree), side)
    near = [
        (place + generator.integers(-3, 4, size=len(place))).clip(0, side - 1)
        for place in (rows, columns)
    ]
    edges = np.stack([near[0] * side + near[1], rows * side + columns])
    y = np.empty(nodes, np.int64)
    y[name] = np.arange(nodes) // side * 8 // side
    x = generator.standard_normal((nodes, features), dtype=np.float32)
    x[np.arange(nodes), y] += 1.0
    split = generator.integers(3, size=nodes)
    splits = {name: split == number for number, name in enumerate(SPLITS)}
    unordered = folder.with_name(f"{folder.name}.unordered")
    graph = convert_arrays(unordered, edge_index=name[edges], x=x, y=y, splits=splits)
    reorder_graph(graph, folder, order_nodes(stored_adjacency(graph)))


class Whole(FullGraph):
    """A stored graph, read into memory."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.folder = folder

    def read(self) -> Data:
        graph = MemoryMappedGraph(self.folder)
        x, y = (graph.get_tensor(None, name, index=None).clone() for name in ("x", "y"))
        whole = Data(x=x, y=y, edge_index=stored_adjacency(graph).edge_index)
        for split in SPLITS:
            mask = torch.zeros(graph.num_nodes, dtype=torch.bool)
            mask[graph.split_nodes(split)] = True
            whole[f"{split}_mask"] = mask
        return whole


class Record(Callback):
    """The losses, the seconds of the steps, and the memory of each process."""

    def __init__(self, memory: AnonymousMemory) -> None:
        self.memory, self.losses, self.seconds = memory, [], []
        self.imported = anonymous_memory()

    def on_train_start(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        self.read, self.last = self.memory.restart(), time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, task: Any, *_: Any) -> None:
        now = time.perf_counter()
        self.seconds.append(now - self.last)
        self.last = now
        self.losses.append(float(trainer.callback_metrics["train/loss"]))

    def on_train_end(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        own = {
            "gib_imported": self.imported / 2**30,
            "gib_reading": self.read / 2**30,
            "gib_training": self.memory.restart() / 2**30,
        }
        part = trainer.train_dataloader.dataset.part
        own |= {"nodes": part.num_nodes, "sources": part.partition.shape[1]}
        self.ranks = data_parallel(task).gather_objects(own)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--in_memory", action="store_true", help="read the whole graph first")
    parser.add_argument("--side", type=int, default=448)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--output", type=Path, help="a .json file for the measurements")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not options.folder.exists() and "LOCAL_RANK" not in os.environ:
        write(options.folder, options.side)
    memory = AnonymousMemory()
    memory.start()
    pl.seed_everything(0, verbose=False)
    record = Record(memory)
    folder = str(options.folder)
    data = PartitionedGraph(Whole(folder) if options.in_memory else GraphFolder(folder))
    network = graph_transformer(64, 8, dim=64, depth=2, num_heads=4)
    task = Classification(network, Partitioned(), num_classes=8, level="node", lr=3e-3)
    several = {"strategy": "ddp", "devices": options.processes} if options.processes > 1 else {}
    trainer = silent_trainer([record], max_steps=options.steps, max_epochs=-1, **several)
    trainer.fit(task, data)
    if trainer.is_global_zero:
        found = {
            "edges": MemoryMappedGraph(options.folder).num_edges,
            "losses": record.losses,
            "weights_norm": float(sum(p.detach().square().sum() for p in task.parameters()) ** 0.5),
            "seconds_per_step_min": round(min(record.seconds), 2),
            "ranks": record.ranks,
        }
        print(json.dumps(found, indent=2))
        if options.output:
            options.output.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
