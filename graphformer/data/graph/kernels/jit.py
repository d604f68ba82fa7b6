"""Numba for loops over graphs: compiled once, and kept on the disk."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numba

_log = logging.getLogger("graphformer")


def cached_njit(function: Callable[..., Any]) -> Any:
    """The function, to be compiled when it is called; kept, if something can be written to disk.

    While it runs, other threads of Python go on.
    """
    try:
        return numba.njit(function, cache=True, nogil=True)
    except RuntimeError as error:  # numba found no folder that it may write to
        _log.warning("loops are compiled anew, set NUMBA_CACHE_DIR to keep them: %s", error)
        return numba.njit(function, nogil=True)
