"""The folder of a run: a new one for each run, its loggers, and atomic writes."""

from __future__ import annotations

import os
from datetime import datetime
from importlib.util import find_spec
from itertools import count
from pathlib import Path

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

_INHERITED = "GRAPHFORMER_RUN_FOLDER"


def make_run_folder(root: str | os.PathLike[str], experiment: str) -> Path:
    """Create `root/experiment/<date>-<time>` and return it; a suffix `-2`, `-3` ... makes it new.

    The processes that a distributed run starts share the folder of the first process.
    """
    if "LOCAL_RANK" in os.environ and _INHERITED in os.environ:
        return Path(os.environ[_INHERITED])
    parent = Path(root) / experiment
    parent.mkdir(parents=True, exist_ok=True)
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    for number in count(1):
        folder = parent / (stamp if number == 1 else f"{stamp}-{number}")
        try:
            folder.mkdir()  # atomic: fails if another process has created it
        except FileExistsError:
            continue
        break
    os.environ[_INHERITED] = str(folder)
    return folder


def make_loggers(folder: Path) -> list[Logger]:
    """Return loggers that write into the folder `<root>/<experiment>/<run>` itself."""
    root, name, version = folder.parent.parent, folder.parent.name, folder.name
    loggers: list[Logger] = [CSVLogger(root, name, version)]
    if find_spec("tensorboard"):
        loggers.append(TensorBoardLogger(root, name, version, default_hp_metric=False))
    return loggers


def write_atomically(path: Path, text: str) -> None:
    """Write a text file such that a reader never sees a part of it."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
