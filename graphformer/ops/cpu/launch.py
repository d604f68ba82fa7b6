"""Runs kernels over work items, on as many threads as torch uses.

Kernels are C callbacks `kernel(item, table, scratch)`. One parallel loop, which is compiled once,
calls them by address; threads take the next item from an atomic counter.
"""

# mypy: disable-error-code="misc,no-untyped-call,no-untyped-def"
from __future__ import annotations

import os
import struct
import threading
from array import array
from collections.abc import Mapping
from functools import lru_cache

import numba
import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from graphformer.ops.cpu.kernel_cache import compile_cached, remove_outdated_kernels
from graphformer.ops.cpu.kernels.argument_table import CAPACITY, CHUNK, FIELDS, ITEM_FIELDS
from graphformer.ops.cpu.kernels.indirect_calls import call_kernel, take_next
from graphformer.ops.cpu.kernels.simd import read_index

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
remove_outdated_kernels()


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
        self.items_address, self.hubs_address = items.ctypes.data, hubs.ctypes.data


def work_items(indptr: Tensor, num_edges: int) -> WorkItems:
    """The work items of a pass over rows; those of small graphs, which are one, are cached."""
    rows = indptr.shape[0] - 1
    if rows + num_edges < CHUNK:
        return _one_item(indptr.dtype, rows, num_edges)
    return WorkItems(indptr, num_edges)


@lru_cache(maxsize=4096)
def _one_item(dtype: torch.dtype, rows: int, num_edges: int) -> WorkItems:
    """The work items of rows that share one item, whichever edges they have."""
    indptr = torch.zeros(rows + 1, dtype=dtype)
    indptr[rows:] = num_edges
    return WorkItems(indptr, num_edges)


# Arguments --------------------------------------------------------------------------------------

Value = Tensor | float | None


class Table:
    """The argument table of a kernel; keeps the arrays alive whose addresses it holds."""

    __slots__ = ("arrays", "entries")

    def __init__(self, values: Mapping[int, Value]) -> None:
        self.entries = array("q", bytes(8 * len(FIELDS)))
        self.arrays: list[Value] = []
        self.update(values)

    def with_values(self, values: Mapping[int, Value]) -> Table:
        """Return a copy with further values, by field of `argument_table`."""
        copy = Table.__new__(Table)
        copy.entries, copy.arrays = self.entries[:], self.arrays[:]
        copy.update(values)
        return copy

    def update(self, values: Mapping[int, Value]) -> None:
        """Set fields: the address of an array, the bits of a float, an integer, or 0 for None."""
        entries = self.entries
        for field, value in values.items():
            if value is None:
                entries[field] = 0
            elif isinstance(value, Tensor):
                entries[field] = value.data_ptr()
                self.arrays.append(value)
            elif isinstance(value, float):
                entries[field] = struct.unpack("q", struct.pack("d", value))[0]
            else:
                entries[field] = value


# Running ----------------------------------------------------------------------------------------


class _Scratch(threading.local):
    """Memory of the kernels that one Python thread runs, which its next call uses again."""

    def __init__(self) -> None:
        self.memory = np.empty(0, np.uint8)

    def address(self, size: int) -> int:
        """The address of at least `size` bytes, at the start of a cache line."""
        if self.memory.size < size + LINE:
            self.memory = np.empty(size + LINE, np.uint8)
            self.start = -(-self.memory.ctypes.data // LINE) * LINE
        return self.start


LINE = 64
"""Bytes of a cache line."""
_scratch = _Scratch()


def _run_serial(address, count, table, scratch):
    for item in range(count):
        call_kernel(address, item, table, scratch)


_run_serial = compile_cached(njit, "void(int64, int64, int64, int64)", _run_serial, nogil=True)


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


def run(address: int, count: int, table: Table, scratch_size: int) -> None:
    """Run a kernel over work items.

    Args:
        address: of the kernel.
        count: of the items.
        table: the arguments.
        scratch_size: floats that each thread needs for itself, besides the lists of edges.
    """
    if not count:
        return
    entries, _ = table.entries.buffer_info()
    # Whole cache lines per thread, with room for aligning arrays within
    size = (8 * (3 * CAPACITY + scratch_size) + 1023) // LINE * LINE
    # After a fork, the pool would wait for the parent's threads.
    threads = 1 if count == 1 or _forked else min(torch.get_num_threads(), count, _pool_size())
    scratch = _scratch.address(threads * size)
    if threads == 1:
        _run_serial(address, count, entries, scratch)
        return
    counter = np.zeros(1, np.int64)
    with _lock:
        numba.set_num_threads(threads)
        _run_parallel(address, count, entries, scratch, size, counter.ctypes.data, threads)


def _pool_size() -> int:
    """The number of threads that numba may use."""
    size: int = numba.config.NUMBA_NUM_THREADS
    return size
