"""What is shown and written at the end of a command, and what is kept quiet before it."""

from __future__ import annotations

import csv
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from graphformer.cli.errors import UsageError

# Advertisements, and what a table says better.
_UNWANTED_LINES = (
    "💡 Tip", "TPU available", "HPU available", "GPU available: False", "Seed set to",
    "Loading `train_dataloader`", "`Trainer.fit` stopped",
    "Restoring states from", "Restored all states", "Loaded model weights",
)  # fmt: skip
_UNWANTED_WARNINGS = (
    r"The '.*_dataloader' does not have many workers",
    r"The number of training batches \(\d+\) is smaller than the logging interval",
    r"The dirpath has changed from",
    r"Experiment logs directory .* exists and is not empty",
    r"Be aware that when using `ckpt_path`, callbacks used to create the checkpoint",
    r"`ModelCheckpoint\(monitor='val/loss'\)` could not find the monitored key",
    r".*`isinstance\(treespec, LeafSpec\)` is deprecated",
)


@contextmanager
def quiet() -> Iterator[None]:
    """Leave out lines and warnings that tell the user nothing to act on."""
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    fabric = logging.getLogger("lightning.fabric.utilities.seed")
    with warnings.catch_warnings():
        for message in _UNWANTED_WARNINGS:
            warnings.filterwarnings("ignore", message=message)
        logger.addFilter(_is_wanted)
        fabric.addFilter(_is_wanted)
        try:
            yield
        finally:
            logger.removeFilter(_is_wanted)
            fabric.removeFilter(_is_wanted)


def print_metrics(results: Sequence[Mapping[str, float]], title: str) -> None:
    """Print metrics as a table."""
    table = Table("metric", "value")
    for name, value in (item for result in results for item in result.items()):
        table.add_row(name, f"{value:.4f}")
    print(title)
    Console().print(table)


def print_start(network: nn.Module, adjacency: object, folder: Path | None) -> None:
    """Print what is going to be trained, and where it goes."""
    weights = sum(p.numel() for p in network.parameters() if p.requires_grad)
    place = "" if folder is None else f" in {folder}"
    print(f"training {type(network).__name__}, {weights:,} weights, {adjacency}{place}")


def print_fit(trainer: pl.Trainer, folder: Path | None) -> None:
    """Print the last metrics of a training run, and where its checkpoints are."""
    metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
    print_metrics([metrics], f"after {trainer.global_step} steps")
    if folder is not None and (folder / "checkpoints").is_dir():
        names = sorted(file.name for file in (folder / "checkpoints").glob("*.ckpt"))
        print(f"checkpoints: {folder / 'checkpoints'} ({', '.join(names)})")


def check_format(path: Path) -> None:
    """Raise `UsageError` unless predictions can be written to a file of this name."""
    if path.suffix not in (".pt", ".csv"):
        raise UsageError(f"--output {path}: expected a name that ends in .pt or .csv")
    if not path.parent.is_dir():
        raise UsageError(f"--output {path}: there is no folder {path.parent}")


def write_predictions(outputs: Sequence[Any], path: Path) -> None:
    """Write outputs [rows, K] to a .pt or .csv file, which is there whole or not at all."""
    rows = torch.cat([output.detach().cpu().float() for output in outputs])
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb" if path.suffix == ".pt" else "w", newline=None) as file:
            if path.suffix == ".pt":
                torch.save(rows, file)
            else:
                csv.writer(file, lineterminator="\n").writerows(rows.flatten(1).tolist())
        Path(name).chmod(0o644)
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)
    print(f"wrote {rows.shape[0]} rows to {path}")


def _is_wanted(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(_UNWANTED_LINES)
