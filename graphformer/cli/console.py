"""Output of the commands: filtered messages, tables of metrics."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.table import Table
from torch import nn

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


class PrintProgress(Callback):
    """Prints a line of metrics after an epoch or a validation, for logs without a progress bar.

    Args:
        seconds: minimal time between two lines.
    """

    def __init__(self, seconds: float = 10.0) -> None:
        self.seconds = seconds
        self._start = self._last = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._start = self._last = time.monotonic()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print a line after a validation within an epoch."""
        if not trainer.sanity_checking and trainer.state.fn == "fit" and not trainer.is_last_batch:
            self._print(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print a line after an epoch."""
        self._print(trainer)

    def _print(self, trainer: pl.Trainer) -> None:
        now = time.monotonic()
        if not trainer.is_global_zero or now - self._last < self.seconds:
            return
        self._last = now
        epochs, steps = trainer.max_epochs, trainer.max_steps
        of_epochs = f"/{epochs}" if epochs is not None and epochs > 0 else ""
        of_steps = f"/{steps}" if steps > 0 else ""
        metrics = trainer.callback_metrics.items()
        values = ", ".join(f"{name} {value.item():.4g}" for name, value in metrics)
        print(
            f"epoch {trainer.current_epoch + 1}{of_epochs}, step {trainer.global_step}{of_steps}, "
            f"{values}, {now - self._start:.0f} s",
            flush=True,
        )


class PrintResult(Callback):
    """Prints the last metrics of a training run and the paths of its checkpoints.

    Args:
        folder: of the run; None without one.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print them in the first process, unless the run was finished before."""
        if not trainer.is_global_zero or not trainer.callback_metrics:
            return
        metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
        print_metrics([metrics], f"after {trainer.global_step} steps")
        if self.folder is not None and (self.folder / "checkpoints").is_dir():
            names = sorted(file.name for file in (self.folder / "checkpoints").glob("*.ckpt"))
            print(f"checkpoints: {self.folder / 'checkpoints'} ({', '.join(names)})", flush=True)
