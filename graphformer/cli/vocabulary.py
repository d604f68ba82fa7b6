"""The vocabulary of a run, beside its checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback


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
