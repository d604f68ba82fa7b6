"""The folder of a run: a new one for each run, its loggers, and atomic writes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

import torch
from lightning.fabric.plugins import TorchCheckpointIO
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


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file to write that replaces `path` at the end, or leaves it unchanged on an error.

    The data is written to a file in the same folder, because renaming is atomic only within a file
    system.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_atomically(path: Path, text: str) -> None:
    """Write a text file by `atomic_file`."""
    with atomic_file(path) as file:
        file.write(text.encode())


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints by `atomic_file`.

    Lightning (2.6) writes to the system's temporary folder and copies to the target, which leaves
    a part of the file there if the disk is full or the process is killed.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Write a checkpoint; `storage_options` are not supported, as in the base class."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(target) as file:
            torch.save(checkpoint, file)
