"""`graphformer demo`: one Transformer on images, text and a graph, with dense and sparse edges.

Nothing is downloaded: the digits are part of scikit-learn, the text is Python's standard library.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from rich import box
from rich.console import Console
from rich.table import Table

from graphformer.cli.config.command_parser import CommandParser, number
from graphformer.cli.console import quiet
from graphformer.cli.plots.demo import CLOCKS, Modality, Run, draw, show_metric
from graphformer.cli.profiling import forward_backward, peak_memory
from graphformer.data import Digits, DigitsGraph, StandardLibrary
from graphformer.models import Model, graph_transformer, language_model, vit
from graphformer.patterns import Causal, Complete, Edges, Grid, Pattern, SelfLoops, Window
from graphformer.tasks import Classification, LanguageModeling, Task

SIZE: dict[str, Any] = {"dim": 64, "depth": 4, "num_heads": 4}
"""Sizes of the Transformer, the same for every modality."""
CHARACTERS = 4096
"""Length of a text, at which a step with all pairs takes several times as long as with a window."""


def main(argv: Sequence[str] = ()) -> int:
    """Train, print a table, save a figure; return 0.

    Raises:
        UsageError: when the arguments are wrong.
    """
    arguments = _parse(argv)
    console = Console()
    if not console.is_terminal:
        console = Console(width=110)
    folder = Path(arguments.output)
    folder.mkdir(parents=True, exist_ok=True)
    start, runs = time.perf_counter(), []
    for modality in _modalities(arguments.seed):
        for name, steps in modality.steps.items():
            steps = max(2, round(steps * arguments.budget))
            runs.append(_train(modality, name, steps, arguments))
    console.print(_table(runs))
    figure = folder / "demo.png"
    draw(runs, figure)
    console.rule()
    console.print(f"{time.perf_counter() - start:.0f} s in total; wrote {figure}")
    return 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = CommandParser("demo", "Train one Transformer on images, text and a graph.")
    add = parser.add_argument
    add("--output", default="runs/demo", help="folder of the figure")
    add("--seed", type=int, default=0, help="of data and weights")
    add(
        "--clock", choices=sorted(CLOCKS), default="wall", help="cpu: for a machine with other load"
    )
    add("--budget", type=number(0, low_included=False), default=1.0, help="factor on all steps")
    return parser.parse_args(list(argv))


def _modalities(seed: int) -> list[Modality]:
    """Return the three data sets, with networks, tasks and adjacencies."""
    digits, graph = Digits(batch_size=32, seed=seed), DigitsGraph(seed=seed)
    text = StandardLibrary(block_size=CHARACTERS, batch_size=1, seed=seed)
    for data in (digits, text, graph):
        data.prepare_data()
        data.setup("fit")

    def classify(level: Literal["node", "graph"]) -> Callable[[Model, Pattern], Task]:
        return lambda network, adjacency: Classification(
            network,
            adjacency,
            num_classes=10,
            level=level,
            lr=1e-3,
            schedule="cosine",
            warmup_steps=20,
        )

    def predict_next(network: Model, adjacency: Pattern) -> Task:
        return LanguageModeling(
            network, adjacency, lr=5e-3, schedule="cosine", warmup_steps=15, min_lr_ratio=0.1
        )

    near = Window(64, causal=True)
    return [
        Modality(
            "images: digits",
            digits,
            lambda: vit(10, channels=1, patch_size=1, **SIZE, max_length=8),
            classify("graph"),
            {"complete": Complete(), "grid 1": Grid(1)},
            steps={"complete": 400, "grid 1": 400},
            metric="accuracy",
            chance=0.1,
        ),
        Modality(
            "text: Python",
            text,
            lambda: language_model(
                text.vocab_size, **SIZE, max_length=CHARACTERS, positions="rotary"
            ),
            predict_next,
            {"causal": Causal(), "window 64": near, "window 64, longer": near},
            steps={"causal": 150, "window 64": 150, "window 64, longer": 750},
            metric="bits_per_character",
            chance=_unigram_bits(text),
        ),
        Modality(
            "graph: digits",
            graph,
            lambda: graph_transformer(64, 10, **SIZE, dropout=0.3),
            classify("node"),
            {"none": SelfLoops(), "complete": Complete(), "edges": Edges(self_loops=True)},
            steps={"none": 60, "complete": 60, "edges": 60},
            metric="accuracy",
            chance=0.1,
        ),
    ]


def _unigram_bits(text: StandardLibrary) -> float:
    """Return bits per character of the test split under the training split's frequencies."""
    train, test = (
        torch.cat([batch.y for batch in text.batches(split)]) for split in ("train", "test")
    )
    counts = torch.bincount(train, minlength=text.vocab_size) + 1.0
    return float(-(counts / counts.sum()).log2()[test].mean())


def _train(modality: Modality, adjacency: str, steps: int, arguments: argparse.Namespace) -> Run:
    pl.seed_everything(arguments.seed, verbose=False)
    pattern = modality.adjacencies[adjacency]
    task = modality.task(modality.network(), pattern)
    run = Run(modality, adjacency, task, CLOCKS[arguments.clock])
    with quiet():
        trainer = pl.Trainer(
            accelerator="cpu",
            max_steps=steps,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            limit_val_batches=0,
            enable_progress_bar=False,
            callbacks=[run],
        )
        trainer.fit(run.task, modality.data)
        (results,) = trainer.test(run.task, modality.data, verbose=False)
    run.result = results[f"test/{modality.metric}"]
    batch = next(iter(modality.data.train_dataloader()))
    run.edges = pattern(batch).num_edges
    run.task.eval()
    run.memory = peak_memory(forward_backward(lambda: run.task(batch)))
    return run


def _table(runs: list[Run]) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD,
        title="One Transformer, three modalities, dense and sparse adjacencies",
        caption="edges: of a batch; test: accuracy on images of 64 patches and on the nodes of a\n"
        "graph of 8 neighbours with 20 labels per class; bits per character of unseen\n"
        f"files, in texts of {CHARACTERS:,} characters (chance: by frequency); peak: memory of\n"
        "the tensors of one training step",
    )
    table.add_column("modality")
    table.add_column("adjacency")
    for column in ("edges", "test", "chance", "steps", "ms/step", "total s", "peak MiB"):
        table.add_column(column, justify="right")
    for previous, run in zip([None, *runs], runs, strict=False):
        modality = run.modality
        is_first = previous is None or previous.modality is not modality
        if is_first and previous is not None:
            table.add_section()
        table.add_row(
            modality.name if is_first else "",
            run.adjacency,
            f"{run.edges:,}",
            show_metric(run.result, modality.metric),
            show_metric(modality.chance, modality.metric),
            f"{len(run.seconds):,}",
            f"{1000 * run.step_time:.0f}",
            f"{sum(run.seconds):.0f}",
            f"{run.memory / 2**20:.0f}",
        )
    return table
