"""Usage errors: problems that the user can correct, shown as one line."""

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
    """An error that the user can correct; its message is shown without a traceback."""


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turn errors that the package raises about its input into `UsageError`.

    All other errors, such as those of a bug, pass unchanged.
    """
    # Imported here because `list` and `--version` use this module without these packages.
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    from graphformer.data import MissingDataError

    try:
        yield
    except (MisconfigurationException, MissingDataError) as error:
        raise UsageError(_first_line(error)) from error
    except _REFUSALS as error:
        # jsonargparse wraps an error that a constructor raises in one of its own.
        refusal = next((cause for cause in _causes(error) if _is_refusal(cause)), None)
        if refusal is None:
            raise
        raise UsageError(_first_line(refusal)) from error


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error, its cause, the cause of that, and so on."""
    while error is not None:
        yield error
        error = error.__cause__


def _is_refusal(error: BaseException) -> bool:
    """Whether a `raise` statement of this package raised the error, with a message.

    An error on any other line of the package is a bug, and needs its traceback.
    """
    frames = traceback.extract_tb(error.__traceback__)
    if not frames or not Path(frames[-1].filename).is_relative_to(_PACKAGE):
        return False
    return (frames[-1].line or "").startswith("raise ") and bool(str(error))
