"""Runs kernels over work items, on as many threads as torch uses.

Kernels are C callbacks `kernel(item, table, scratch)`. One parallel loop, which is compiled once,
calls them by address; threads take the next item from an atomic counter.
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

from graphformer.ops.cpu.argument_table import CAPACITY, CHUNK, FIELDS, ITEM_FIELDS
from graphformer.ops.cpu.indirect_calls import call_kernel, take_next
from graphformer.ops.cpu.kernel_cache import compile_cached, remove_outdated
from graphformer.ops.cpu.simd import read_index

_lock = threading.Lock()  # numba's default thread pool admits one calling thread at a time
_forked = False


def _after_fork() -> None:
    """In a child process, neither the lock's owner nor the pool's threads exist any more."""
    global _lock, _forked
    _lock, _forked = threading.Lock(), True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


# Work items -------------------------------------------------------------------------------------


def fill_items(indptr, wide, rows, items, hubs, counts):
    """Divide rows into work items of about CHUNK edges and rows; split rows with more edges.

    Fills items (first row, end row, first slot, end slot, part or -1), hubs (row, first part, end
    part) and counts (items, hubs, parts).
    """
    item = hub = part = 0
    first, begin = 0, read_index(indptr, wide, 0)  # of the item that is being filled
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
            for slot in range(start, end, CHUNK):
                items[item] = (row, row + 1, slot, min(slot + CHUNK, end), part)
                item, part = item + 1, part + 1
            hubs[hub, 2] = part
            hub, first, begin = hub + 1, row + 1, end
        start = end
    counts[0], counts[1], counts[2] = item, hub, part
    return item


_fill_items = compile_cached(
    njit, "int64(int64, int64, int64, int64[:, ::1], int64[:, ::1], int64[::1])", fill_items
)
if _fill_items.stats.cache_path:
    remove_outdated(Path(_fill_items.stats.cache_path))


class WorkItems:
    """The work items of a pass over rows, and the rows ("hubs") that are split between several."""

    def __init__(self, indptr: Tensor, num_edges: int) -> None:
        rows = indptr.shape[0] - 1
        # A whole item closes at CHUNK edges and rows, or before a split row; a split row has at
        # most one part that is not full.
        bound = 2 * (num_edges // CHUNK + rows // CHUNK + 2) + 2 * (num_edges // CHUNK)
        items = np.empty((bound, ITEM_FIELDS), np.int64)
        hubs = np.empty((num_edges // CHUNK + 1, 3), np.int64)
        counts = np.empty(3, np.int64)
        _fill_items(indptr.data_ptr(), indptr.dtype == torch.int64, rows, items, hubs, counts)
        self.num_items, self.num_hubs, self.num_parts = counts.tolist()
        self.items, self.hubs = items[: self.num_items], hubs[: self.num_hubs]


# Running ----------------------------------------------------------------------------------------


def _run_items(address, count, table, scratch, counter):
    item = take_next(counter)
    while item < count:
        call_kernel(address, item, table, scratch)
        item = take_next(counter)


_run_items = compile_cached(njit, "void(int64, int64, int64, int64, int64)", _run_items, nogil=True)


def _run_parallel(address, count, table, scratch, size, counter, threads):
    for thread in prange(threads):
        _run_items(address, count, table, scratch + thread * size, counter)


_run_parallel = compile_cached(
    njit,
    "void(int64, int64, int64, int64, int64, int64, int64)",
    _run_parallel,
    parallel=True,
    nogil=True,
)


def run(address: int, count: int, table: dict[str, Any], scratch_size: int) -> None:
    """Run a kernel over work items.

    Args:
        address: of the kernel.
        count: of the items.
        table: values by field of `argument_table`; absent fields are 0.
        scratch_size: floats that each thread needs for itself, besides the lists of edges.
    """
    if not count:
        return
    threads = min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS, count)
    threads = 1 if _forked else threads  # the pool would wait for the parent's threads
    entries = np.array([_entry(table.get(field)) for field in FIELDS], np.int64)
    # Whole cache lines per thread, with room for aligning the start and arrays within
    size = (8 * (3 * CAPACITY + scratch_size) + 1023) // 64 * 64
    scratch = np.empty(threads * size + 64, np.uint8)
    counter = np.zeros(1, np.int64)
    addresses = entries.ctypes.data, (scratch.ctypes.data + 63) // 64 * 64
    if threads == 1:
        _run_items(address, count, *addresses, counter.ctypes.data)
        return
    with _lock:
        numba.set_num_threads(threads)
        _run_parallel(address, count, *addresses, size, counter.ctypes.data, threads)


def _entry(value: Any) -> int:
    """A value as an int64 of the table: an address, the bits of a float, or the integer."""
    if value is None:
        return 0
    if isinstance(value, Tensor):
        return value.data_ptr()
    if isinstance(value, np.ndarray):
        return value.ctypes.data
    if isinstance(value, float):
        return struct.unpack("q", struct.pack("d", value))[0]
    return int(value)
