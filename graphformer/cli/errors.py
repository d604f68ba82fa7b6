"""One short message for a wrong command line or file, with the nearest right name."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import graphformer

_PACKAGE = Path(graphformer.__file__).parent
_REFUSALS = (
    ValueError, TypeError, IndexError, RuntimeError, FileNotFoundError, ModuleNotFoundError
)  # fmt: skip


class UsageError(Exception):
    """Something that the user can put right; the message is all that needs to be shown."""


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turn what the user can put right into a `UsageError`; leave everything else as it is."""
    # Here, because `list` and `--version` use this module and import neither.
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    from graphformer.data import MissingDataError

    try:
        yield
    except (MisconfigurationException, MissingDataError) as error:
        raise UsageError(_first_line(error)) from error
    except _REFUSALS as error:
        # jsonargparse wraps what a class says of its arguments into one of its own.
        ours = next((cause for cause in _causes(error) if _is_ours(cause)), None)
        if ours is None:
            raise
        raise UsageError(_first_line(ours)) from error


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, what it came from, and so on."""
    while error is not None:
        yield error
        error = error.__cause__


def _is_ours(error: BaseException) -> bool:
    """Whether the library itself refuses something: then the message says what to do.

    What goes wrong on a line that raises nothing itself is a mistake of ours, not of the user.
    """
    frames = traceback.extract_tb(error.__traceback__)
    if not frames or not Path(frames[-1].filename).is_relative_to(_PACKAGE):
        return False
    return (frames[-1].line or "").startswith("raise ") and bool(str(error))
