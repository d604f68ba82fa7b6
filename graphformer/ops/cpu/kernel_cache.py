"""Compiles kernels, and keeps them on disk where numba keeps its own (NUMBA_CACHE_DIR if set).

numba names a file after the function and takes it for fresh while that function's source file
stays as it is. Kernels here are put together from many files and specialised for widths; so a
kernel's name says all that its code depends on. An edit anywhere in the package is then never
answered with old code, and processes that compile at once never share a file for two kernels.
"""

# mypy: disable-error-code="no-untyped-call"
from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba import cfunc, types
from numba.core.registry import cpu_target

from graphformer.ops.common import notice
from graphformer.ops.cpu import backward, block_steps, dropout_kernel, forward

_log = logging.getLogger("graphformer")
_MAKERS: dict[str, Callable[..., Any]] = {
    "forward": forward.make_forward,
    "forward_join": forward.make_forward_join,
    "weights": forward.make_weights,
    "by_target": backward.make_by_target,
    "by_source": backward.make_by_source,
    "sum_join": backward.make_sum_join,
    "drop_numbers": dropout_kernel.make_drop_numbers,
}
_FOLDER = Path(__file__).parent
_COMMON_WIDTHS = {8, 16, 32, 64, 128}
_reported: list[str] = []


@cache
def fingerprint(folder: Path) -> str:
    """12 hexadecimal digits of all Python sources in a folder."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.py")):
        digest.update(f"{file.name}\n".encode() + file.read_bytes())
    return digest.hexdigest()[:12]


@cache
def _origin() -> str:
    """What all kernels depend on: these sources, the compiler and the processor."""
    compiler = numba.__version__, llvmlite.__version__
    processor = cpu_target.target_context.codegen().magic_tuple()
    machine = hashlib.sha256(repr((compiler, processor)).encode()).hexdigest()[:12]
    return f"{fingerprint(_FOLDER)}_{machine}"


def compile_cached(
    decorate: Callable[..., Any], signature: Any, function: Any, *constants: int, **options: Any
) -> Any:
    """Compile a function with a decorator of numba's, or take it from the disk.

    `constants` are what distinguishes functions of one name. Where nothing can be written,
    functions are compiled in each process anew.
    """
    function.__qualname__ = "_".join([function.__name__, *map(str, constants), _origin()])
    try:
        return decorate(signature, cache=True, **options)(function)
    except (OSError, RuntimeError) as error:
        _log.warning("CPU kernels are not kept, set NUMBA_CACHE_DIR to a free folder: %s", error)
        return decorate(signature, **options)(function)


def remove_outdated(folder: Path) -> None:
    """Delete what other versions of these sources have left in numba's folder for the package."""
    current = fingerprint(_FOLDER)
    for file in folder.glob("*.nb[ic]"):
        if current not in file.name:
            with suppress(OSError):  # another process was faster, or owns it
                file.unlink()


@cache
def kernel(name: str, double: bool, *constants: int) -> int:
    """The address of a kernel, compiled on first use."""
    number = types.CPointer(types.float64 if double else types.float32)
    signature = types.void(types.int64, types.CPointer(types.int64), number)
    function = _MAKERS[name](*constants)
    options = {"fastmath": {"contract", "reassoc", "nsz"}, "error_model": "numpy"}
    start = time.perf_counter()
    made = compile_cached(cfunc, signature, function, int(double), *constants, **options)
    if not made.cache_hits:
        _report(name, time.perf_counter() - start)
    address: int = made.address
    return address


@cache
def sweep(name: str, double: bool) -> int:
    """The address of one of `graphformer.ops.cpu.block_steps`."""
    integers, i64 = types.CPointer(types.int64), types.int64
    number = types.CPointer(types.float64 if double else types.float32)
    signature = types.void(integers, number, i64, i64, integers, i64)
    if name == "list_edges":
        signature = types.void(integers, i64, i64, integers)
    function = getattr(block_steps, name)
    address: int = compile_cached(
        cfunc, signature, function, int(double), error_model="numpy"
    ).address  # fmt: skip
    return address


def _report(name: str, seconds: float) -> None:
    """Say what compiling has cost: the first kernel to everybody, the others to the log."""
    text = f"compiled the CPU kernel {name} in {seconds:.1f} s"
    if _reported:
        _log.info("%s", text)
    else:
        notice(f"{text}; each is compiled on first use and kept for all later runs")
    _reported.append(name)


def shape_constants(double: bool, width: int, value_width: int) -> tuple[int, int, int]:
    """(lanes, width, value width): what is compiled in; 0 for a width that stays a variable.

    Common widths get kernels of their own, all others share one, so that little is compiled.
    """
    most = 8 if double else 16
    widths = {width, value_width} - {0}
    if len(widths) == 1 and widths <= _COMMON_WIDTHS:
        return min(most, *widths), width, value_width
    return 8, 0, 0
