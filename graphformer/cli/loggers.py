"""Metrics as a CSV file, and for TensorBoard where that is installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger


def make_loggers(folder: Path) -> list[Logger]:
    """Loggers that write into the folder `<root>/<experiment>/<run>` itself."""
    root, name, version = folder.parent.parent, folder.parent.name, folder.name
    loggers: list[Logger] = [CSVLogger(root, name, version)]
    if find_spec("tensorboard"):
        loggers.append(TensorBoardLogger(root, name, version, default_hp_metric=False))
    return loggers
