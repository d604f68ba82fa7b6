"""Sharded checkpoints that are complete or absent: written beside their folder, then renamed."""

from __future__ import annotations

import ctypes
import os
import shutil
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch.strategies import Strategy
from torch.distributed.checkpoint.api import CheckpointException

_CURRENT_FOLDER, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux


def save_atomically(strategy: Strategy) -> None:
    """Let a strategy write the checkpoints of all processes beside the path they then replace.

    An interrupted or failed save leaves the checkpoint that was there. Lightning (2.6) overwrites
    the files of a folder in place.
    """
    write = strategy.save_checkpoint
    if not isinstance(write, partial):
        strategy.save_checkpoint = partial(_save, strategy, write)  # type: ignore[method-assign]


def _save(
    strategy: Strategy,
    write: Any,
    checkpoint: dict[str, Any],
    filepath: str | os.PathLike[str],
    storage_options: Any = None,
) -> None:
    """Write a checkpoint by the strategy's own method; all processes must call this.

    Raises:
        OSError: when the files cannot be written; it names `filepath`.
    """
    path = Path(strategy.broadcast(filepath))
    unfinished = path.with_name(f".{path.name}.partial")
    is_first = strategy.is_global_zero
    if is_first:
        _remove(unfinished)  # of an interrupted save
    strategy.barrier()
    try:
        write(checkpoint, unfinished, storage_options=storage_options)
    except (CheckpointException, OSError) as error:
        if is_first:
            _remove(unfinished)
        cause = _system_error(error)
        if cause is None:
            raise
        raise OSError(cause.errno, cause.strerror, str(path)) from error
    strategy.barrier()
    if is_first:
        _replace(unfinished, path)
    strategy.barrier()


def _system_error(error: BaseException) -> OSError | None:
    """Return the system's error behind that of torch, which has the errors of all processes."""
    if isinstance(error, CheckpointException):
        causes = [cause for cause, _ in error.failures.values()]
        return next((cause for cause in causes if isinstance(cause, OSError)), None)
    return error if isinstance(error, OSError) else None


def _replace(new: Path, path: Path) -> None:
    """Rename a file or folder to a path, where there may be another.

    Only Linux can replace a folder in one step. Elsewhere, and on file systems that cannot, the
    former one has another name for a moment.
    """
    if not path.exists() or (new.is_file() and path.is_file()):
        new.replace(path)
        return
    if _exchange(new, path):
        _remove(new)
        return
    old = path.with_name(f".{path.name}.old")
    _remove(old)
    path.rename(old)
    new.rename(path)
    _remove(old)


def _exchange(first: Path, second: Path) -> bool:
    """Exchange the names of two files or folders in one step; False where that is impossible."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None) if os.name == "posix" else None
    if rename is None:
        return False
    names = os.fsencode(first), os.fsencode(second)
    failed: int = rename(_CURRENT_FOLDER, names[0], _CURRENT_FOLDER, names[1], _EXCHANGE)
    return failed == 0


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
