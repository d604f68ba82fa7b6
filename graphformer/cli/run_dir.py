"""The folder of a run: a new one for each run, and atomic writes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

import torch
from lightning.fabric.plugins import TorchCheckpointIO

_INHERITED = "GRAPHFORMER_RUN_FOLDER"
_RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")
"""Variables of the environment by which launchers number processes."""


def make_run_folder(root: str | os.PathLike[str], experiment: str) -> Path:
    """Create `root/experiment/<date>-<time>` and return it; a suffix `-2`, `-3` ... makes it new.

    The processes that a distributed run starts share the folder of the first process. Under
    another launcher, such as torchrun, only the first process creates one; the path that the
    others return is not used.
    """
    if "LOCAL_RANK" in os.environ and _INHERITED in os.environ:
        return Path(os.environ[_INHERITED])
    parent = Path(root) / experiment
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    if not is_first_process():
        return parent / stamp
    parent.mkdir(parents=True, exist_ok=True)
    for number in count(1):
        folder = parent / (stamp if number == 1 else f"{stamp}-{number}")
        try:
            folder.mkdir()  # atomic: fails if another process has created it
        except FileExistsError:
            continue
        break
    os.environ[_INHERITED] = str(folder)
    return folder


def is_first_process() -> bool:
    """Whether this is the first process of a distributed run, or the only one."""
    return not any(int(os.environ.get(name) or 0) for name in _RANKS)


@contextmanager
def removed_if_unused(created: Sequence[Path]) -> Iterator[None]:
    """Remove the folder of a run, if the body fails before there are metrics or checkpoints.

    Args:
        created: the folders that the run has created: its own, then those around it, from the
            inside out, which are removed if they are empty.
    """
    try:
        yield
    except BaseException:
        if created and is_first_process() and not _is_used(created[0]):
            shutil.rmtree(created[0], ignore_errors=True)
            with suppress(OSError):  # a folder that is not empty stays
                for folder in created[1:]:
                    folder.rmdir()
        raise


def _is_used(folder: Path) -> bool:
    return any(folder.glob("checkpoints/*.ckpt")) or (folder / "metrics.csv").exists()


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file to write that replaces `path` at the end, or leaves it unchanged on an error.

    The data is written to a file in the same folder, because renaming is atomic only within a file
    system.

    Raises:
        OSError: when the file cannot be written; it names `path`.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(partial)):
            raise  # an error of the body
        raise OSError(error.errno, error.strerror, str(path)) from error
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
        """Write a checkpoint; `storage_options` are not supported, as in the base class.

        Raises:
            OSError: when the file cannot be written.
        """
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(target) as file:
            save_tensors(checkpoint, file)


def save_tensors(content: object, file: BinaryIO) -> None:
    """Write `torch.save`'s format, with the system's error where writing fails.

    torch (2.13) reports a full disk as a RuntimeError about the position in its archive; the
    system's error is that error's context.

    Raises:
        OSError: when the file cannot be written.
    """
    try:
        torch.save(content, file)
    except RuntimeError as error:
        cause = error.__context__
        while cause is not None and not isinstance(cause, OSError):
            cause = cause.__context__
        if cause is None:
            raise
        raise OSError(cause.errno, cause.strerror) from error
