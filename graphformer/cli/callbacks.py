"""What every training run carries: its settings, its random states, a clean stop on Ctrl-C."""

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
    """Write the settings, as YAML, into the run's folder and into every checkpoint."""

    def __init__(self, folder: Path, text: str) -> None:
        self.folder = folder
        self.text = text

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Write `config.yaml`; loggers, which would mind an older file, have begun by now."""
        if trainer.is_global_zero:
            (self.folder / "config.yaml").write_text(self.text, encoding="utf-8")

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the settings to the checkpoint."""
        checkpoint[CONFIG_KEY] = self.text


class ExactResume(Callback):
    """Keep the state of all random generators, so that a resumed run draws what it would have.

    The place in the training data, which Lightning keeps, is restored here too: Lightning itself
    forgets to where a schedule asked for the number of steps first (version 2.6).
    """

    def __init__(self) -> None:
        self._restored: dict[str, Any] | None = None
        self._loaders: list[dict[str, Any]] = []

    def state_dict(self) -> dict[str, Any]:
        """The states, as plain types and tensors."""
        _, keys, *position = np.random.get_state()
        version, internal, gauss = random.getstate()
        return {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "numpy": [torch.from_numpy(np.asarray(keys, dtype=np.int64)), *position],
            "python": [version, list(internal), gauss],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the states, to be set when training starts."""
        self._restored = state_dict

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take the place in the data."""
        self._loaders = checkpoint["loops"]["fit_loop"]["state_dict"].get("combined_loader", [])

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set the states: after everything that draws numbers on the way here."""
        if self._loaders and trainer.train_dataloader is not None:
            trainer.train_dataloader.load_state_dict(self._loaders[0])
        if self._restored is None:
            return
        state, self._restored = self._restored, None
        torch.set_rng_state(state["torch"])
        if len(state["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(state["cuda"])
        keys, *position = state["numpy"]
        np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), *position))
        version, internal, gauss = state["python"]
        random.setstate((version, tuple(internal), gauss))


class TrainingStopped(Exception):  # noqa: N818  (it is no error)
    """Training was stopped by Ctrl-C, between two batches and with a checkpoint written."""


class StopOnSignal(Callback):
    """On Ctrl-C: finish the batch, write `checkpoints/last.ckpt`, stop; a second one is final."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "checkpoints" / "last.ckpt"
        self._asked = False
        self._previous: Any = None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start to listen."""
        self._previous = signal.signal(signal.SIGINT, self._ask)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Stop listening."""
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        """Stop here if asked to."""
        self._stop(trainer)

    def on_validation_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        """Stop here if asked to."""
        if not trainer.sanity_checking:
            self._stop(trainer)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True

    def _stop(self, trainer: pl.Trainer) -> None:
        # All processes get the signal, but perhaps not at the same batch.
        if trainer.strategy.reduce_boolean_decision(self._asked, all=False):
            trainer.save_checkpoint(self.path)
            raise TrainingStopped(self.path)


def make_checkpoint_callback(folder: Path, *, keep_best: bool) -> ModelCheckpoint:
    """Keep the last checkpoint and, if asked to, the one of least validation loss."""
    monitor: dict[str, Any] = {"monitor": "val/loss"} if keep_best else {"save_top_k": 0}
    return ModelCheckpoint(
        folder / "checkpoints",
        filename="best",
        save_last=True,
        enable_version_counter=False,
        **monitor,
    )


class StoreTokenizer(Callback):
    """Write the data's tokenizer, if it has one, as `tokenizer.json` into the run's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write it: by now a checkpoint's own has replaced that of the data."""
        data: Any = getattr(trainer, "datamodule", None)
        tokenizer = getattr(data, "tokenizer", None)
        if tokenizer is not None and trainer.is_global_zero:
            tokenizer.save(self.folder / "tokenizer.json")
