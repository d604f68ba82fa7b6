"""What the experiments on large graphs measure: anonymous memory, and training without output."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback


class AnonymousMemory(threading.Thread):
    """Samples the anonymous memory of this process (RssAnon), in bytes, 50 times a second.

    It is what a process needs beside pages of files, which the system can drop.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0

    def run(self) -> None:
        while True:
            self.peak = max(self.peak, anonymous_memory())
            time.sleep(0.02)

    def restart(self) -> int:
        """Return the peak since the last call."""
        peak, self.peak = max(self.peak, anonymous_memory()), 0
        return peak


def anonymous_memory() -> int:
    """Return the anonymous memory of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def silent_trainer(callbacks: list[Callback] | None = None, **options: Any) -> pl.Trainer:
    """Return a trainer on a CPU that writes and prints nothing, and does not validate."""
    return pl.Trainer(
        accelerator="cpu",
        logger=False,
        callbacks=callbacks,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        limit_val_batches=0,
        **options,
    )
