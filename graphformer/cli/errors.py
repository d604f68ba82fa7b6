"""Usage errors: problems that the user can correct, shown as one line."""

from __future__ import annotations

import json
import traceback
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from zipfile import BadZipFile

import graphformer

_PACKAGE = Path(graphformer.__file__).parent
_REFUSALS = (
    ValueError, TypeError, IndexError, RuntimeError, FileNotFoundError, ModuleNotFoundError
)  # fmt: skip
_LIBRARIES = ("lightning", "torch.optim")
"""Modules whose `raise` statements are about the arguments that they were called with."""
_READERS = (
    "zipfile", "gzip", "zlib", "json", "yaml", "numpy.lib", "PIL", "pickle", "torch.serialization"
)  # fmt: skip
"""Modules that read files."""
_UNREADABLE = (BadZipFile, zlib.error, json.JSONDecodeError, UnicodeDecodeError, RecursionError)


class UsageError(Exception):
    """An error that the user can correct; its message is shown without a traceback."""


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turn errors about arguments and about files into `UsageError`.

    These are raised by a `raise` statement of the package or of Lightning, or by a reader of files.
    All other errors, such as those of a bug, pass unchanged.
    """
    # Imported here because `list` and `--version` use this module without these packages.
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    from graphformer.data import MissingDataError

    try:
        yield
    except (MisconfigurationException, MissingDataError) as error:
        raise UsageError(_first_line(error)) from error
    except (*_REFUSALS, *_UNREADABLE, MemoryError, EOFError, NotImplementedError) as error:
        # jsonargparse wraps an error that a constructor raises in one of its own.
        refusal = next((cause for cause in _causes(error) if _is_refusal(cause)), None)
        if refusal is not None:
            raise UsageError(_first_line(refusal)) from error
        if isinstance(error, RecursionError):
            if _package_frames(error.__traceback__) < 100:  # otherwise a bug of the package
                raise UsageError("a file or setting is nested too deeply to be read") from error
        elif isinstance(error, _UNREADABLE) or _module(error).startswith(_READERS):
            raise UsageError(f"a file cannot be read: {_first_line(error)}") from error
        raise


@contextmanager
def argument_errors() -> Iterator[None]:
    """Turn errors that other libraries raise while objects are built into `UsageError`.

    For the body that builds objects from the user's settings: there, an error in another library
    is about its arguments. Errors on a line of the package pass unchanged. The sentence names the
    type of those whose message says little, such as the key of a KeyError.
    """
    try:
        yield
    except UsageError:
        raise
    except (*_REFUSALS, ArithmeticError, LookupError, AttributeError) as error:
        if isinstance(error, OSError) or any(map(_is_from_package, _causes(error))):
            raise
        names_type = not isinstance(error, _REFUSALS)
        kind = f"{type(error).__name__}: " if names_type else ""
        raise UsageError(f"{kind}{_first_line(error)}") from error


def lost_process(error: BaseException) -> str | None:
    """Return a sentence for an error that another process of the run has ended, or None."""
    from torch.distributed import DistBackendError

    for cause in _causes(error):
        if isinstance(cause, DistBackendError) or "/gloo/" in str(cause):
            reason = _first_line(cause).rpartition("] ")[2].partition(". ")[0]
            return (
                f"another process of this run has ended or cannot be reached ({reason}), so this "
                "one ends; resume with graphformer fit --ckpt RUN"
            )
    return None


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error, its cause, the cause of that, and so on."""
    while error is not None:
        yield error
        error = error.__cause__


def _is_refusal(error: BaseException) -> bool:
    """Whether a `raise` statement of this package or of Lightning raised the error with a message.

    An error on any other line of the package is a bug, and needs its traceback.
    """
    frames = traceback.extract_tb(error.__traceback__)
    if not frames or not str(error) or not (frames[-1].line or "").startswith("raise "):
        return False
    is_ours = Path(frames[-1].filename).is_relative_to(_PACKAGE)
    return is_ours or _module(error).startswith(_LIBRARIES)


def _module(error: BaseException) -> str:
    """Return the name of the module that raised an error."""
    name = ""
    for frame in _frames(error.__traceback__):
        name = str(frame.tb_frame.f_globals.get("__name__", ""))
    return name


def _is_from_package(error: BaseException) -> bool:
    return _module(error).partition(".")[0] == "graphformer"


def _package_frames(frame: TracebackType | None) -> int:
    files = (each.tb_frame.f_code.co_filename for each in _frames(frame))
    return sum(Path(file).is_relative_to(_PACKAGE) for file in files)


def _frames(frame: TracebackType | None) -> Iterator[TracebackType]:
    while frame is not None:
        yield frame
        frame = frame.tb_next
