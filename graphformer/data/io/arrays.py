"""Files of plain arrays: .npz archives."""

from __future__ import annotations

import zlib
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

_UNREADABLE = (
    ValueError, TypeError, AttributeError, EOFError, RuntimeError, MemoryError, OverflowError,
    BadZipFile, zlib.error,
)  # fmt: skip
"""Errors of numpy and zipfile for files that are damaged, encrypted or larger than they can be."""


def load_arrays(file: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an .npz archive by name.

    Raises:
        ValueError: when the file is no archive of plain arrays.
    """
    try:
        with file.open("rb") as raw, np.load(raw) as arrays:
            return {name: arrays[name] for name in arrays}
    except _UNREADABLE as error:
        raise ValueError(
            f"{file}: got no .npz file of plain arrays ({error}), expected one as numpy.savez "
            "writes it"
        ) from None
