"""The numba decorator of the graph kernels."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numba

_log = logging.getLogger("graphformer")


def cached_njit(function: Callable[..., Any]) -> Any:
    """Compile a function with numba on its first call, and cache the machine code on disk.

    The compiled function releases the GIL. Without a writable cache folder it is compiled again in
    each process, and a warning is logged.
    """
    try:
        return numba.njit(function, cache=True, nogil=True)
    except RuntimeError as error:  # numba found no folder that it may write to
        _log.warning(
            "numba kernels are compiled again in each process (%s); set NUMBA_CACHE_DIR to a "
            "writable folder to cache them",
            error,
        )
        return numba.njit(function, nogil=True)
