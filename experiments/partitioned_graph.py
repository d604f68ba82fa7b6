"""Train on one graph of 2 million edges that is divided among processes; compare with one process.

    python experiments/partitioned_graph.py --processes 1
    python experiments/partitioned_graph.py --processes 4

The nodes are points of a square with random order; each has edges from 10 nodes near it. A graph
transformer of two layers is trained on all nodes. Each run prints the losses and, for each process,
the peak of anonymous memory (RssAnon) while the graph is read and divided, and after that.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from out_of_core import AnonymousMemory
from torch_geometric.data import Data

from graphformer.data import FullGraph
from graphformer.distributed import Partitioned, PartitionedGraph, data_parallel
from graphformer.models import graph_transformer
from graphformer.tasks import Classification


class Square(FullGraph):
    """Points of a square with edges from points near them; classes are strips of the square."""

    def __init__(self, side: int, degree: int = 10, features: int = 64) -> None:
        super().__init__()
        self.side, self.degree, self.features = side, degree, features

    def read(self) -> Data:
        generator = np.random.default_rng(0)
        nodes = self.side**2
        name = generator.permutation(nodes)
        rows, columns = np.divmod(np.arange(nodes).repeat(self.degree), self.side)
        near = [
            (place + generator.integers(-3, 4, size=len(place))).clip(0, self.side - 1)
            for place in (rows, columns)
        ]
        edges = np.stack([near[0] * self.side + near[1], rows * self.side + columns])
        y = np.empty(nodes, np.int64)
        y[name] = np.arange(nodes) // self.side * 8 // self.side
        x = generator.standard_normal((nodes, self.features), dtype=np.float32)
        x[np.arange(nodes), y] += 1.0
        split = torch.from_numpy(generator.integers(3, size=nodes))
        masks = {"train_mask": split == 0, "val_mask": split == 1, "test_mask": split == 2}
        edge_index = torch.from_numpy(name[edges])
        return Data(x=torch.from_numpy(x), y=torch.from_numpy(y), edge_index=edge_index, **masks)


class Record(Callback):
    """The losses, the seconds of the steps, and the memory of each process."""

    def __init__(self, memory: AnonymousMemory) -> None:
        self.memory, self.losses, self.seconds = memory, [], []

    def on_train_start(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        self.read, self.last = self.memory.restart(), time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, task: Any, *_: Any) -> None:
        now = time.perf_counter()
        self.seconds.append(now - self.last)
        self.last = now
        self.losses.append(float(trainer.callback_metrics["train/loss"]))

    def on_train_end(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        own = {"gib_reading": self.read / 2**30, "gib_training": self.memory.restart() / 2**30}
        part = trainer.train_dataloader.dataset.part
        own |= {"nodes": part.num_nodes, "sources": part.partition.shape[1]}
        self.ranks = data_parallel(task).gather_objects(own)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--side", type=int, default=448)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--output", type=Path, help="a .json file for the measurements")
    options = parser.parse_args()
    torch.set_num_threads(1)
    memory = AnonymousMemory()
    memory.start()
    pl.seed_everything(0, verbose=False)
    record = Record(memory)
    data = PartitionedGraph(Square(options.side))
    network = graph_transformer(64, 8, dim=64, depth=2, num_heads=4)
    task = Classification(network, Partitioned(), num_classes=8, level="node", lr=3e-3)
    several = {"strategy": "ddp", "devices": options.processes} if options.processes > 1 else {}
    trainer = pl.Trainer(
        max_steps=options.steps,
        max_epochs=-1,
        accelerator="cpu",
        logger=False,
        callbacks=[record],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        **several,
    )
    trainer.fit(task, data)
    if trainer.is_global_zero:
        found = {
            "edges": options.side**2 * 10,
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
