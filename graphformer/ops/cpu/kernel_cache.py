"""Compiles kernels and caches them on disk, where numba has its cache (NUMBA_CACHE_DIR if set).

numba names a cache file after the function and considers it valid while that function's source file
is unchanged. Kernels here depend on many files and on widths. So a kernel's name includes a hash of
all sources, the compiler, the processor and the widths: an edit of any file in this folder or below
never loads outdated code, and processes that compile at the same time never share a file.
"""

# mypy: disable-error-code="no-untyped-call"
from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
import torch
from numba import cfunc, types
from numba.core.caching import FunctionCache
from numba.core.registry import cpu_target

from graphformer.ops.common import notice
from graphformer.ops.cpu.decoding import parts
from graphformer.ops.cpu.kernels import (
    by_source,
    by_target,
    complete,
    forward,
    optional_steps,
    split_rows,
)

_log = logging.getLogger("graphformer")
_MAKERS: dict[str, Callable[..., Any]] = {
    "forward": forward.make_forward,
    "forward_join": forward.make_forward_join,
    "weights": forward.make_weights,
    "by_target": by_target.make_by_target,
    "by_source": by_source.make_by_source,
    "sum_join": split_rows.make_sum_join,
    "complete_forward": complete.make_complete_forward,
    "complete_backward": complete.make_complete_backward,
    "dropout": optional_steps.make_dropout,
}
_FOLDER = Path(__file__).parent
_NOT_COMPILED = {"__init__.py", "driver.py"}
_COMMON_WIDTHS = {8, 16, 32, 64, 128}
_reported: list[str] = []


@cache
def fingerprint(folder: Path) -> str:
    """12 hexadecimal digits of a hash of all Python sources below a folder that are compiled."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        if file.name in _NOT_COMPILED:
            continue
        digest.update(f"{file.relative_to(folder)}\n".encode() + file.read_bytes())
    return digest.hexdigest()[:12]


@cache
def _versions() -> str:
    """A hash of what all kernels depend on: these sources, the compiler and the processor."""
    compiler = numba.__version__, llvmlite.__version__
    processor = cpu_target.target_context.codegen().magic_tuple()
    machine = hashlib.sha256(repr((compiler, processor)).encode()).hexdigest()[:12]
    return f"{fingerprint(_FOLDER)}_{machine}"


@contextmanager
def _same_number_of_threads() -> Iterator[None]:
    """Leave torch's number of threads unchanged.

    numba (0.68) starts its threads when it compiles or loads a parallel function, and sets the
    number of OpenMP's, which torch shares, to that of all processors. The sums of torch's layer
    norm depend on it, so that a run would not repeat to the bit.
    """
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)


@_same_number_of_threads()
def compile_cached(
    decorate: Callable[..., Any], signature: Any, function: Any, *constants: int, **options: Any
) -> Any:
    """Compile a function with a numba decorator, or load it from disk.

    A damaged cache file is deleted and compiled anew. Where no file can be written, each process
    compiles its own kernels, and a warning is logged.

    Args:
        decorate: `njit` or `cfunc`.
        signature: of the function.
        function: to be compiled.
        constants: distinguish functions of the same name.
        options: of the decorator.
    """
    function.__qualname__ = "_".join([function.__name__, *map(str, constants), _versions()])
    try:
        return decorate(signature, cache=True, **options)(function)
    except Exception as error:  # a damaged file raises whatever pickle does
        if _remove_cached(function):
            _log.warning("the cached CPU kernel %s is damaged: %r", function.__name__, error)
            return decorate(signature, cache=True, **options)(function)
        if not isinstance(error, OSError | RuntimeError):
            raise
        _log.warning("CPU kernels are not cached; set NUMBA_CACHE_DIR: %s", error)
        return decorate(signature, **options)(function)


def _remove_cached(function: Any) -> bool:
    """Delete the cache files of a function; return whether there were any."""
    with suppress(OSError, RuntimeError):  # no folder can be written, or another process deletes
        folder = Path(FunctionCache(function).cache_path)
        files = list(folder.glob(f"*.{function.__qualname__}-*.nb[ic]"))
        for file in files:
            file.unlink(missing_ok=True)
        return bool(files)
    return False


def remove_outdated_kernels() -> None:
    """Delete the files of other versions of these sources from numba's folders for them."""
    # One function of this folder, of `kernels` and of `decoding`
    for function in (report_compilation, forward.make_forward, parts.rotate.py_func):
        with suppress(OSError, RuntimeError):  # no folder can be written
            remove_outdated(Path(FunctionCache(function).cache_path))


def remove_outdated(folder: Path) -> None:
    """Delete the files of other versions of these sources from a folder of numba's."""
    current = fingerprint(_FOLDER)
    for file in folder.glob("*.nb[ic]"):
        if current not in file.name:
            with suppress(OSError):  # deleted by another process, or owned by another user
                file.unlink()


@cache
def kernel(name: str, double: bool, *constants: int) -> int:
    """The address of a kernel, compiled on first use."""
    number = types.CPointer(types.float64 if double else types.float32)
    signature = types.void(types.int64, types.CPointer(types.int64), number)
    function = _MAKERS[name](*constants)
    options = {"fastmath": {"contract", "reassoc", "nsz"}, "error_model": "numpy"}
    start = time.perf_counter()
    compiled = compile_cached(cfunc, signature, function, int(double), *constants, **options)
    if not compiled.cache_hits:
        report_compilation(name, time.perf_counter() - start)
    address: int = compiled.address
    return address


@cache
def step(name: str, double: bool) -> int:
    """The address of one of `graphformer.ops.cpu.kernels.optional_steps`."""
    integers, i64 = types.CPointer(types.int64), types.int64
    number = types.CPointer(types.float64 if double else types.float32)
    signature = types.void(integers, number, i64, i64, integers, i64)
    if name in ("list_edges", "list_neighbours"):
        signature = types.void(integers, i64, i64, integers)
    function = getattr(optional_steps, name)
    compiled = compile_cached(cfunc, signature, function, int(double), error_model="numpy")
    address: int = compiled.address
    return address


def report_compilation(name: str, seconds: float) -> None:
    """Report the time of the first compilation to the user, of later ones to the log."""
    text = f"compiled the CPU kernel {name} in {seconds:.1f} s"
    if _reported:
        _log.info("%s", text)
    else:
        notice(f"{text}; each is compiled on first use and cached for later runs")
    _reported.append(name)


def shape_constants(double: bool, width: int, value_width: int) -> tuple[int, int, int]:
    """(lanes, width, value width) as constants of a kernel; 0 for a width that stays a variable.

    Common widths have kernels of their own and all others share one, which limits compile time.
    """
    widest = 8 if double else 16
    widths = {width, value_width} - {0}
    if len(widths) == 1 and widths <= _COMMON_WIDTHS:
        return min(widest, *widths), width, value_width
    return 8, 0, 0
