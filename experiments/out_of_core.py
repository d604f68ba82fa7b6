"""Train on a graph larger than memory, and measure memory, time and the share of the disk.

    python experiments/out_of_core.py data/communities --nodes 20000000 --degree 20

The folder is written if it does not exist (`community_graph.py`). A GAT of two layers is trained on
sampled neighbourhoods, first with nothing of the files in the system's cache, then again. The
measured memory is anonymous (RssAnon). The disk's part of a step is the time in which its thread
was neither computing nor waiting for a processor while it sampled and read a batch.
"""

from __future__ import annotations

import argparse
import json
import os
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from community_graph import make
from lightning.pytorch.callbacks import Callback
from measuring import AnonymousMemory, silent_trainer

from graphformer.batch_type import Batch
from graphformer.cli.console import quiet
from graphformer.data import MemoryMappedGraph, StoredNodes
from graphformer.data.graph.neighbor_loader import NeighborhoodDataset
from graphformer.models import gat
from graphformer.patterns import Edges
from graphformer.tasks import Classification
from graphformer.tasks.graph.stored_inference import predict_stored_graph


def busy_seconds() -> float:
    """Return the seconds in which this thread ran or waited for a processor."""
    path = f"/proc/self/task/{threading.get_native_id()}/schedstat"
    running, queued, _ = Path(path).read_text().split()
    return (int(running) + int(queued)) / 1e9


def bytes_read() -> int:
    """Return the number of bytes that this process has read from the disk."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("read_bytes"))


class Steps(Callback):
    """Measures the seconds of each step, and of sampling and reading its batch."""

    def __init__(self) -> None:
        self.steps: list[float] = []
        self.fetches: list[float] = []
        self.disk: list[float] = []
        self.nodes: list[int] = []

    @contextmanager
    def fetching(self):  # type: ignore[no-untyped-def]
        read = NeighborhoodDataset.__getitem__

        def measured(dataset: NeighborhoodDataset, index: torch.Tensor) -> Batch:
            start, busy = time.perf_counter(), busy_seconds()
            batch = read(dataset, index)
            seconds = time.perf_counter() - start
            self.fetches.append(seconds)
            self.disk.append(max(0.0, seconds - (busy_seconds() - busy)))
            self.nodes.append(batch.num_nodes)
            return batch

        NeighborhoodDataset.__getitem__ = measured  # type: ignore[method-assign]
        try:
            yield
        finally:
            NeighborhoodDataset.__getitem__ = read  # type: ignore[method-assign]

    def on_train_start(self, *_: Any) -> None:
        self.last = time.perf_counter()

    def on_train_batch_end(self, *_: Any) -> None:
        now = time.perf_counter()
        self.steps.append(now - self.last)
        self.last = now

    def summary(self) -> dict[str, float]:
        count = len(self.steps)
        steps, disk = np.array(self.steps), np.array(self.disk[:count])
        return {
            "steps": count,
            "seconds_per_step_median": round(float(np.median(steps)), 4),
            "seconds_per_step_5th_percentile": round(float(np.percentile(steps, 5)), 4),
            "seconds_fetch_median": round(float(np.median(self.fetches[:count])), 4),
            "seconds_disk_per_step": round(float(disk.mean()), 4),
            "share_of_disk": round(float(disk.sum() / steps.sum()), 4),
            "share_of_disk_first_20_steps": round(float(disk[:20].sum() / steps[:20].sum()), 4),
            "share_of_disk_last_20_steps": round(float(disk[-20:].sum() / steps[-20:].sum()), 4),
            "nodes_per_batch": round(float(np.mean(self.nodes[:count]))),
        }


def drop_from_cache(folder: Path) -> None:
    """Drop the pages of the files from the cache of the system."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def train(task: pl.LightningModule, data: StoredNodes, steps: int) -> dict[str, float]:
    measured, read = Steps(), bytes_read()
    with quiet(), measured.fetching():
        silent_trainer([measured], max_steps=steps).fit(task, data)
    return {**measured.summary(), "gib_read": round((bytes_read() - read) / 2**30, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--nodes", type=int, default=200_000)
    parser.add_argument("--degree", type=int, default=20)
    parser.add_argument("--features", type=int, default=64)
    parser.add_argument("--fanouts", type=int, nargs="+", default=[10, 10])
    parser.add_argument("--batch_size", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--inference", action="store_true", help="predict all nodes layer by layer")
    parser.add_argument("--output", type=Path, help="a .json file for the measurements")
    options = parser.parse_args()
    torch.set_num_threads(1)
    pl.seed_everything(0, verbose=False)
    memory = AnonymousMemory()
    memory.start()
    results: dict[str, Any] = {}

    def measure(name: str, run: Callable[[], dict[str, float]]) -> None:
        memory.restart()
        start = time.perf_counter()
        found = run()
        found["seconds"] = round(time.perf_counter() - start, 1)
        found["gib_anonymous_memory"] = round(memory.restart() / 2**30, 3)
        results[name] = found
        print(name, json.dumps(found), flush=True)
        if options.output:
            options.output.write_text(json.dumps(results, indent=2) + "\n")

    def write() -> dict[str, float]:
        graph = make(str(options.folder), options.nodes, options.degree, options.features)
        files = {path.name: path.stat().st_size for path in options.folder.iterdir()}
        size = round(sum(files.values()) / 2**30, 3)
        return {"nodes": graph.num_nodes, "edges": graph.num_edges, "gib_of_files": size}

    measure("start", dict)
    if not options.folder.exists():
        measure("write", write)
    data = StoredNodes(str(options.folder), options.fanouts, options.batch_size)
    data.setup()
    network = gat(data.num_features, data.num_classes, dim=16, num_heads=4, dropout=0.1)
    task = Classification(
        network, Edges(), num_classes=data.num_classes, level="node", lr=5e-3, metrics=["accuracy"]
    )
    drop_from_cache(options.folder)
    measure("train_from_disk", lambda: train(task, data, options.steps))
    measure("train_again", lambda: train(task, data, options.steps))

    def test() -> dict[str, float]:
        with quiet():
            trainer = silent_trainer(limit_test_batches=100)
            return dict(trainer.test(task, data, verbose=False)[0])

    def infer() -> dict[str, float]:
        graph = MemoryMappedGraph(options.folder)
        path = options.folder.with_suffix(".outputs.npy")
        outputs = predict_stored_graph(task.network, graph, path, Edges())
        nodes = graph.split_nodes("test")
        is_correct = outputs[nodes].argmax(1) == graph.get_tensor(None, "y", index=nodes)
        path.unlink()
        return {"test_accuracy": round(float(is_correct.float().mean()), 4)}

    measure("test_100_batches", test)
    if options.inference:
        measure("infer_all_nodes", infer)


if __name__ == "__main__":
    main()
