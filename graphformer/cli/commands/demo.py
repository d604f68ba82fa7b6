"""`graphformer demo`: the same Transformer on images, text and a graph, complete and sparse.

Nothing is downloaded: scikit-learn carries the digits, Python its own source files.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn

import lightning.pytorch as pl
import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor

from graphformer.cli.console import quiet
from graphformer.cli.errors import UsageError
from graphformer.cli.plots.demo import Modality, Run, draw, show_metric
from graphformer.cli.profiling import forward_backward, peak_memory
from graphformer.data import Digits, DigitsGraph, StandardLibrary
from graphformer.models import Model, graph_transformer, language_model, vit
from graphformer.patterns import Causal, Complete, Edges, Grid, Pattern, SelfLoops, Window
from graphformer.tasks import Classification, LanguageModeling, Task

SIZE: dict[str, Any] = {"dim": 128, "depth": 4, "num_heads": 4}
"""The Transformer, the same for every modality."""


def main(argv: Sequence[str] = ()) -> int:
    """Train, print the table and a sample of text, save the picture."""
    arguments = _parse(argv)
    console = Console()
    folder = Path(arguments.output)
    folder.mkdir(parents=True, exist_ok=True)
    start, runs = time.perf_counter(), []
    for modality in _modalities(arguments.seed):
        steps = max(2, round(modality.steps * arguments.budget))
        for name in modality.adjacencies:
            runs.append(_train(modality, name, steps, arguments.seed))
    console.print(_table(runs))
    for run in runs:
        if isinstance(run.task, LanguageModeling):
            console.rule(f"written by the model with {run.adjacency} attention")
            console.print(_sample(run, length=400, seed=arguments.seed), markup=False)
    picture = folder / "demo.png"
    draw(runs, picture)
    console.rule()
    console.print(f"{time.perf_counter() - start:.0f} s in all; the picture is {picture}")
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"demo: {message}")


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(prog="graphformer demo", description=__doc__)
    parser.add_argument("--output", default="runs/demo", help="the folder for the picture")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--budget", type=float, default=1.0, help="training steps, as a share of the usual ones"
    )
    arguments = parser.parse_args(list(argv))
    if not arguments.budget > 0:
        raise UsageError(f"--budget must be above 0, got {arguments.budget}")
    return arguments


def _modalities(seed: int) -> list[Modality]:
    """The three data sets; nothing is read but what the sizes need."""
    digits, graph = Digits(batch_size=32, seed=seed), DigitsGraph(seed=seed)
    text = StandardLibrary(block_size=128, batch_size=16, seed=seed)
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
            network, adjacency, lr=2e-3, schedule="cosine", warmup_steps=50, min_lr_ratio=0.1
        )

    return [
        Modality(
            "images: digits",
            digits,
            lambda: vit(10, channels=1, patch_size=1, **SIZE, max_length=8),
            classify("graph"),
            {"complete": Complete(), "grid 1": Grid(1)},
            steps=400,
            metric="accuracy",
            chance=0.1,
        ),
        Modality(
            "text: Python",
            text,
            lambda: language_model(text.vocab_size, **SIZE, max_length=128),
            predict_next,
            {"causal": Causal(), "window 16": Window(16, causal=True)},
            steps=500,
            metric="bits_per_character",
            chance=_unigram_bits(text),
        ),
        Modality(
            "graph: digits",
            graph,
            lambda: graph_transformer(64, 10, **SIZE, dropout=0.3),
            classify("node"),
            {"none": SelfLoops(), "complete": Complete(), "edges": Edges(self_loops=True)},
            steps=60,
            metric="accuracy",
            chance=0.1,
        ),
    ]


def _unigram_bits(text: StandardLibrary) -> float:
    """Bits a character of the test text for who knows only how frequent each character is."""
    train, test = (torch.cat([batch.y for batch in text.batches(part)]) for part in ("val", "test"))
    counts = torch.bincount(train, minlength=text.vocab_size) + 1.0
    return float(-(counts / counts.sum()).log2()[test].mean())


def _train(modality: Modality, adjacency: str, steps: int, seed: int) -> Run:
    pl.seed_everything(seed, verbose=False)
    pattern = modality.adjacencies[adjacency]
    run = Run(modality, adjacency, modality.task(modality.network(), pattern))
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
        title="One Transformer, three modalities: who attends to whom",
        caption="edges: of a batch; test: accuracy on images of 64 patches and on the nodes of a\n"
        "graph of 8 nearest neighbours with 20 labels a class, bits a character of unseen\n"
        "files (chance: by frequency); peak: tensors alive in one training step, measured",
    )
    table.add_column("modality")
    table.add_column("adjacency")
    for column in ("edges", "test", "chance", "ms/step", "peak MiB"):
        table.add_column(column, justify="right")
    for last, run in zip([None, *runs], runs, strict=False):
        modality = run.modality
        if last is not None and last.modality is not modality:
            table.add_section()
        table.add_row(
            modality.name if last is None or last.modality is not modality else "",
            run.adjacency,
            f"{run.edges:,}",
            show_metric(run.result, modality.metric),
            show_metric(modality.chance, modality.metric),
            f"{1000 * statistics.median(run.seconds):.0f}",
            f"{run.memory / 2**20:.0f}",
        )
    return table


@torch.no_grad()
def _sample(run: Run, length: int, seed: int) -> str:
    """Text that the model writes, character by character."""
    data: StandardLibrary = run.modality.data  # type: ignore[assignment]
    generator = torch.Generator().manual_seed(seed)
    ids = data.encode("def ")
    for _ in range(length):
        logits = run.task(_last(ids, data.block_size))[-1]
        probabilities = (logits / 0.7).softmax(-1)
        ids = torch.cat([ids, probabilities.multinomial(1, generator=generator)])
    return data.decode(ids)


def _last(ids: Tensor, length: int) -> Any:
    from torch_geometric.data import Data

    x = ids[-length:]
    return Data(x=x, pos=torch.arange(len(x)), lengths=(len(x),))
