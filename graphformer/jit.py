"""The numba decorator of graph kernels and of sorts of edges; imported when they are first run."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numba

_log = logging.getLogger("graphformer")


def cached_njit(function: Callable[..., Any]) -> Any:
    """Compile a function with numba on its first call, and cache the machine code on disk.

    The compiled function releases the GIL. Without a writable cache folder it is compiled again in
    each process, and a warning is logged. A damaged cache is emptied, with a warning, and filled
    again.
    """
    try:
        compiled = numba.njit(function, cache=True, nogil=True)
    except RuntimeError as error:  # numba found no folder that it may write to
        _log.warning(
            "numba kernels are compiled again in each process (%s); set NUMBA_CACHE_DIR to a "
            "writable folder to cache them",
            error,
        )
        return numba.njit(function, nogil=True)
    _tolerate_damage(compiled, function.__name__)
    return compiled


def _tolerate_damage(compiled: Any, name: str) -> None:
    """Make numba compile a function whose cache file cannot be read, instead of raising."""
    cache = compiled._cache
    load = cache.load_overload

    def load_or_empty(signature: Any, target_context: Any) -> Any:
        try:
            found = load(signature, target_context)
        except Exception as error:  # noqa: BLE001 - a damaged file raises whatever pickle does
            _log.warning("the cached kernel %s is damaged and compiled again: %r", name, error)
            cache.flush()
            found = None
        return found

    cache.load_overload = load_or_empty
