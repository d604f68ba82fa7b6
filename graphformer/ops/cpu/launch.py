"""Compiles kernels and runs them over work items, on the threads that torch has.

Kernels are C callbacks `kernel(item, table, scratch)`, built for the widths at hand. The one
parallel loop, compiled once, calls them by address: threads take the next item from a counter.
"""

# mypy: disable-error-code="misc,no-untyped-call,no-untyped-def"
from __future__ import annotations

import logging
import os
import struct
import threading
from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np
import torch
from numba import cfunc, njit, prange, types
from torch import Tensor

from graphformer.ops.cpu import backward, forward, sweeps
from graphformer.ops.cpu.simd import call, read_index, take_next
from graphformer.ops.cpu.table import CAPACITY, CHUNK, FIELDS

_log = logging.getLogger("graphformer")
_lock = threading.Lock()  # numba's simplest thread pool may be entered by one thread at a time
_MAKERS: dict[str, Callable[..., Any]] = {
    "forward": forward.make_forward,
    "forward_join": forward.make_forward_join,
    "weights": forward.make_weights,
    "by_target": backward.make_by_target,
    "by_source": backward.make_by_source,
    "sum_join": backward.make_sum_join,
}
_COMMON_WIDTHS = {8, 16, 32, 64, 128}


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


# Work -------------------------------------------------------------------------------------------


@njit("int64(int64, int64, int64, int64[:, ::1], int64[:, ::1], int64[::1])", cache=True)
def _plan(indptr, wide, rows, items, hubs, counts):
    """Fill items (first row, end row, first edge, end edge, part) and hubs (row, parts' range)."""
    item = hub = part = 0
    first, begin = 0, read_index(indptr, wide, 0)
    start = begin
    for row in range(rows + 1):
        end = read_index(indptr, wide, row + 1) if row < rows else start
        large = end - start > CHUNK
        full = (start - begin) + (row - first) >= CHUNK
        if row > first and (large or full or row == rows):
            items[item] = (first, row, begin, start, -1)
            item, first, begin = item + 1, row, start
        if large:
            hubs[hub, 0], hubs[hub, 1] = row, part
            for edge in range(start, end, CHUNK):
                items[item] = (row, row + 1, edge, min(edge + CHUNK, end), part)
                item, part = item + 1, part + 1
            hubs[hub, 2] = part
            hub, first, begin = hub + 1, row + 1, end
        start = end
    counts[0], counts[1], counts[2] = item, hub, part
    return item


class Plan:
    """The work items of a pass over rows, and the rows that are split between several."""

    def __init__(self, indptr: Tensor, num_edges: int) -> None:
        rows = indptr.shape[0] - 1
        most = 2 * (num_edges // CHUNK + rows // CHUNK + 2)
        most += 2 * (num_edges // CHUNK)
        items = np.empty((most, 5), np.int64)
        hubs = np.empty((num_edges // CHUNK + 1, 3), np.int64)
        counts = np.empty(3, np.int64)
        _plan(indptr.data_ptr(), indptr.dtype == torch.int64, rows, items, hubs, counts)
        self.num_items, self.num_hubs, self.num_parts = counts.tolist()
        self.items, self.hubs = items[: self.num_items], hubs[: self.num_hubs]


# Kernels ----------------------------------------------------------------------------------------


@cache
def kernel(name: str, double: bool, *constants: int) -> int:
    """The address of a kernel, compiled on first use and kept on disk by numba."""
    _announce()
    number = types.CPointer(types.float64 if double else types.float32)
    signature = types.void(types.int64, types.CPointer(types.int64), number)
    function = _MAKERS[name](*constants)
    fastmath = {"contract", "reassoc", "nsz"}
    address: int = cfunc(signature, cache=True, fastmath=fastmath, error_model="numpy")(
        function
    ).address
    return address


@cache
def sweep(name: str, double: bool) -> int:
    """The address of one of `graphformer.ops.cpu.sweeps`."""
    integers, i64 = types.CPointer(types.int64), types.int64
    number = types.CPointer(types.float64 if double else types.float32)
    signature = types.void(integers, number, i64, i64, integers, i64)
    if name == "list_edges":
        signature = types.void(integers, i64, i64, integers)
    function = getattr(sweeps, name)
    address: int = cfunc(signature, cache=True, error_model="numpy")(function).address
    return address


@cache
def _announce() -> None:
    _log.info("loading the CPU kernels; on the first run they are compiled, a few seconds each")


def shape_constants(double: bool, width: int, value_width: int) -> tuple[int, int, int]:
    """(lanes, width, value width): what is compiled in; 0 for a width that stays a variable.

    Common widths get kernels of their own, all others share one, so that little is compiled.
    """
    most = 8 if double else 16
    widths = {width, value_width} - {0}
    if len(widths) == 1 and widths <= _COMMON_WIDTHS:
        return min(most, *widths), width, value_width
    return 8, 0, 0


# Running ----------------------------------------------------------------------------------------


@njit("void(int64, int64, int64, int64, int64)", nogil=True, cache=True)
def _take_items(address, count, table, scratch, counter):
    item = take_next(counter)
    while item < count:
        call(address, item, table, scratch)
        item = take_next(counter)


@njit(
    "void(int64, int64, int64, int64, int64, int64, int64)", parallel=True, nogil=True, cache=True
)
def _share_items(address, count, table, scratch, size, counter, threads):
    for thread in prange(threads):
        _take_items(address, count, table, scratch + thread * size, counter)


def run(address: int, count: int, table: dict[str, Any], scratch_numbers: int) -> None:
    """Run a kernel over items 0 .. count - 1; `scratch_numbers` floats are a thread's own."""
    if not count:
        return
    threads = min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS, count)
    entries = np.array([_entry(table.get(field)) for field in FIELDS], np.int64)
    size = (8 * (3 * CAPACITY + scratch_numbers) + 1023) // 64 * 64
    scratch = np.empty(threads * size + 64, np.uint8)
    counter = np.zeros(1, np.int64)
    where = entries.ctypes.data, (scratch.ctypes.data + 63) // 64 * 64
    if threads == 1:  # no thread pool: also safe in a forked data loader worker
        _take_items(address, count, *where, counter.ctypes.data)
        return
    with _lock:
        numba.set_num_threads(threads)
        _share_items(address, count, *where, size, counter.ctypes.data, threads)


def _entry(value: Any) -> int:
    """An int64 for the table: an address, a float's bits, a number."""
    if value is None:
        return 0
    if isinstance(value, Tensor):
        return value.data_ptr()
    if isinstance(value, np.ndarray):
        return value.ctypes.data
    if isinstance(value, float):
        return struct.unpack("q", struct.pack("d", value))[0]
    return int(value)
