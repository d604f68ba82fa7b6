"""Output of the commands: filtered messages, tables of metrics, prediction files."""

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

# Advertisements, and messages that repeat what the tables show.
_HIDDEN_LINES = (
    "💡 Tip", "TPU available", "HPU available", "GPU available: False", "Seed set to",
    "Loading `train_dataloader`", "`Trainer.fit` stopped",
    "Restoring states from", "Restored all states", "Loaded model weights",
)  # fmt: skip
_HIDDEN_WARNINGS = (
    r"The '.*_dataloader' does not have many workers",
    r"The number of training batches \(\d+\) is smaller than the logging interval",
    r"The dirpath has changed from",
    r"Experiment logs directory .* exists and is not empty",
    r"Be aware that when using `ckpt_path`, callbacks used to create the checkpoint",
    r"`ModelCheckpoint\(monitor='val/loss'\)` could not find the monitored key",
    r".*`isinstance\(treespec, LeafSpec\)` is deprecated",
    r"Early stopping conditioned on metric .* which is not available",
)
_LOGGERS = ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.seed")


@contextmanager
def quiet() -> Iterator[None]:
    """Hide log lines and warnings that the user cannot act on."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    with warnings.catch_warnings():
        for message in _HIDDEN_WARNINGS:
            warnings.filterwarnings("ignore", message=message)
        for logger in loggers:
            logger.addFilter(_is_shown)
        try:
            yield
        finally:
            for logger in loggers:
                logger.removeFilter(_is_shown)


def _is_shown(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(_HIDDEN_LINES)


def print_metrics(results: Sequence[Mapping[str, float]], title: str) -> None:
    """Print metrics as a table."""
    table = Table("metric", "value")
    for name, value in (item for result in results for item in result.items()):
        table.add_row(name, f"{value:.4f}")
    print(title)
    Console().print(table)


def print_start(network: nn.Module, adjacency: object, folder: Path | None) -> None:
    """Print one line: the network, its size, the adjacency and the run's folder."""
    weights = sum(p.numel() for p in network.parameters() if p.requires_grad)
    place = "" if folder is None else f" in {folder}"
    print(f"training {type(network).__name__}, {weights:,} weights, {adjacency}{place}")


def print_fit(trainer: pl.Trainer, folder: Path | None) -> None:
    """Print the last metrics of a training run and the paths of its checkpoints."""
    metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
    print_metrics([metrics], f"after {trainer.global_step} steps")
    if folder is not None and (folder / "checkpoints").is_dir():
        names = sorted(file.name for file in (folder / "checkpoints").glob("*.ckpt"))
        print(f"checkpoints: {folder / 'checkpoints'} ({', '.join(names)})")


def check_format(path: Path) -> None:
    """Refuse the name of a prediction file that cannot be written.

    Raises:
        UsageError: when the suffix is unknown or the folder does not exist.
    """
    if path.suffix not in (".pt", ".csv"):
        raise UsageError(f"--output {path}: expected a name that ends in .pt or .csv")
    if not path.parent.is_dir():
        raise UsageError(f"--output {path}: there is no folder {path.parent}")


def write_predictions(
    outputs: Sequence[Any], path: Path, names: Sequence[str] | None = None
) -> None:
    """Write outputs [rows, K] to a .pt or .csv file, atomically.

    Args:
        outputs: of each batch.
        path: of the file.
        names: of the samples, which a .csv file has in its first column if there is one per row.
    """
    rows = torch.cat([output.detach().cpu().float() for output in outputs])
    table: list[list[Any]] = []
    if path.suffix == ".csv":
        table = rows.flatten(1).tolist()
        if names is not None and len(names) == len(table):
            table = [[name, *row] for name, row in zip(names, table, strict=True)]
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb" if path.suffix == ".pt" else "w", newline=None) as file:
            if path.suffix == ".pt":
                torch.save(rows, file)
            else:
                csv.writer(file, lineterminator="\n").writerows(table)
        Path(name).chmod(0o644)
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)
    print(f"wrote {rows.shape[0]} rows to {path}")
