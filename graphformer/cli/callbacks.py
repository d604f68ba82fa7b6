"""Callbacks of every training run: stored settings and tokenizer, exact resume, stop on Ctrl-C."""

from __future__ import annotations

import random
import signal
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

CONFIG_KEY = "graphformer_config"


class StoreConfig(Callback):
    """Writes the settings, as YAML, into the run's folder and into every checkpoint."""

    def __init__(self, folder: Path, text: str) -> None:
        self.folder = folder
        self.text = text

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Write `config.yaml`, after the loggers are created, which refuse a folder with files."""
        if trainer.is_global_zero:
            (self.folder / "config.yaml").write_text(self.text, encoding="utf-8")

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the settings to the checkpoint."""
        checkpoint[CONFIG_KEY] = self.text


class StoreTokenizer(Callback):
    """Writes the data's tokenizer, if it has one, into the run's folder as `tokenizer.json`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the file, after the tokenizer of a checkpoint has replaced the data's own."""
        data: Any = getattr(trainer, "datamodule", None)
        tokenizer = getattr(data, "tokenizer", None)
        if tokenizer is not None and trainer.is_global_zero:
            tokenizer.save(self.folder / "tokenizer.json")


class ExactResume(Callback):
    """Stores the state of all random generators and the position in the training data.

    A resumed run then draws the same numbers and batches as one that was not interrupted.
    Lightning (2.6) stores the position too, but does not restore it if the learning-rate schedule
    has asked for the number of steps before.
    """

    def __init__(self) -> None:
        self._random_states: dict[str, Any] | None = None
        self._loader_states: list[dict[str, Any]] = []

    def state_dict(self) -> dict[str, Any]:
        """Return the random states as plain types and tensors, which load with weights_only."""
        _, keys, *position = np.random.get_state()
        version, internal, gauss = random.getstate()
        return {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "numpy": [torch.from_numpy(np.asarray(keys, dtype=np.int64)), *position],
            "python": [version, list(internal), gauss],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the random states until training starts."""
        self._random_states = state_dict

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the position in the data until training starts."""
        loops = checkpoint["loops"]["fit_loop"]["state_dict"]
        self._loader_states = loops.get("combined_loader", [])

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore both; nothing between here and the first batch draws a number."""
        if self._loader_states and trainer.train_dataloader is not None:
            trainer.train_dataloader.load_state_dict(self._loader_states[0])
        if self._random_states is None:
            return
        state, self._random_states = self._random_states, None
        torch.set_rng_state(state["torch"])
        if len(state["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(state["cuda"])
        keys, *position = state["numpy"]
        np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), *position))
        version, internal, gauss = state["python"]
        random.setstate((version, tuple(internal), gauss))


class TrainingStopped(Exception):  # noqa: N818 - not an error
    """Training has stopped on Ctrl-C, between two batches, after writing a checkpoint."""


class StopOnSignal(Callback):
    """On Ctrl-C, finishes the batch, writes `checkpoints/last.ckpt` and stops.

    A second Ctrl-C stops at once, without a checkpoint.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "checkpoints" / "last.ckpt"
        self._requested = False
        self._previous: Any = None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Install the signal handler."""
        self._previous = signal.signal(signal.SIGINT, self._request)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Restore the previous signal handler."""
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        """Stop after a training batch if requested."""
        self._stop_if_requested(trainer)

    def on_validation_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        """Stop after a validation batch if requested, except in the sanity check."""
        if not trainer.sanity_checking:
            self._stop_if_requested(trainer)

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self._requested:
            raise KeyboardInterrupt
        self._requested = True

    def _stop_if_requested(self, trainer: pl.Trainer) -> None:
        # The signal may reach the processes of a distributed run at different batches.
        if trainer.strategy.reduce_boolean_decision(self._requested, all=False):
            trainer.save_checkpoint(self.path)
            raise TrainingStopped(self.path)


def make_checkpoint_callback(folder: Path, *, keep_best: bool) -> ModelCheckpoint:
    """Return a callback that keeps the last checkpoint and, optionally, that of least val/loss."""
    monitor: dict[str, Any] = {"monitor": "val/loss"} if keep_best else {"save_top_k": 0}
    return ModelCheckpoint(
        folder / "checkpoints",
        filename="best",
        save_last=True,
        enable_version_counter=False,
        **monitor,
    )
