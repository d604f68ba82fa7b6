"""Runs kernels over work items, on as many threads as torch has.

Kernels are C callbacks `kernel(item, table, scratch)`. The one parallel loop, compiled once, calls
them by address: threads take the next item from a counter.
"""

# mypy: disable-error-code="misc,no-untyped-call,no-untyped-def"
from __future__ import annotations

import os
import struct
import threading
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from graphformer.ops.cpu.argument_table import CAPACITY, CHUNK, FIELDS
from graphformer.ops.cpu.indirect_calls import call, take_next
from graphformer.ops.cpu.kernel_cache import compile_cached, remove_outdated
from graphformer.ops.cpu.simd import read_index

_lock = threading.Lock()  # numba's simplest thread pool may be entered by one thread at a time
_forked = False


def _after_fork() -> None:
    """In a child process, neither the lock's owner nor the pool's threads exist any more."""
    global _lock, _forked
    _lock, _forked = threading.Lock(), True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


# Work -------------------------------------------------------------------------------------------


def fill_plan(indptr, wide, rows, items, hubs, counts):
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


_fill_plan = compile_cached(
    njit, "int64(int64, int64, int64, int64[:, ::1], int64[:, ::1], int64[::1])", fill_plan
)
if _fill_plan.stats.cache_path:
    remove_outdated(Path(_fill_plan.stats.cache_path))


class WorkItems:
    """The work items of a pass over rows, and the rows that are split between several."""

    def __init__(self, indptr: Tensor, num_edges: int) -> None:
        rows = indptr.shape[0] - 1
        most = 2 * (num_edges // CHUNK + rows // CHUNK + 2)
        most += 2 * (num_edges // CHUNK)
        items = np.empty((most, 5), np.int64)
        hubs = np.empty((num_edges // CHUNK + 1, 3), np.int64)
        counts = np.empty(3, np.int64)
        _fill_plan(indptr.data_ptr(), indptr.dtype == torch.int64, rows, items, hubs, counts)
        self.num_items, self.num_hubs, self.num_parts = counts.tolist()
        self.items, self.hubs = items[: self.num_items], hubs[: self.num_hubs]


# Running ----------------------------------------------------------------------------------------


def _take_items(address, count, table, scratch, counter):
    item = take_next(counter)
    while item < count:
        call(address, item, table, scratch)
        item = take_next(counter)


_take_items = compile_cached(
    njit, "void(int64, int64, int64, int64, int64)", _take_items, nogil=True
)


def _share_items(address, count, table, scratch, size, counter, threads):
    for thread in prange(threads):
        _take_items(address, count, table, scratch + thread * size, counter)


_share_items = compile_cached(
    njit,
    "void(int64, int64, int64, int64, int64, int64, int64)",
    _share_items,
    parallel=True,
    nogil=True,
)


def run(address: int, count: int, table: dict[str, Any], scratch_numbers: int) -> None:
    """Run a kernel over items 0 .. count - 1; `scratch_numbers` floats are a thread's own."""
    if not count:
        return
    threads = min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS, count)
    threads = 1 if _forked else threads  # the pool would wait for threads that the parent had
    entries = np.array([_entry(table.get(field)) for field in FIELDS], np.int64)
    size = (8 * (3 * CAPACITY + scratch_numbers) + 1023) // 64 * 64
    scratch = np.empty(threads * size + 64, np.uint8)
    counter = np.zeros(1, np.int64)
    where = entries.ctypes.data, (scratch.ctypes.data + 63) // 64 * 64
    if threads == 1:
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
