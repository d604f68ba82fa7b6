"""Numba kernels of a hash table of names: UTF-8 texts end to end, with the start of each.

A table has the number of a name in each entry, -1 if it is empty; its capacity is a power of two
of at least twice the number of names.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import numpy as np

from graphformer.jit import cached_njit

_OFFSET = np.uint64(0xCBF29CE484222325)
_PRIME = np.uint64(0x100000001B3)


@cached_njit
def _hash(text, start, stop):
    """Return a 64-bit hash of bytes, FNV-1a, its high bits mixed into the low ones.

    Source: Fowler, Noll and Vo, RFC 9923.
    """
    z = _OFFSET
    for i in range(start, stop):
        z = (z ^ np.uint64(text[i])) * _PRIME
    return z ^ (z >> np.uint64(32))


@cached_njit
def _find(table, text, starts, query, start, stop):
    """Return the entry of a name: the one that has it, or an empty one; linear probing."""
    mask = np.uint64(len(table) - 1)
    entry = _hash(query, start, stop) & mask
    while table[entry] >= 0:
        number = table[entry]
        first, length = starts[number], starts[number + 1] - starts[number]
        is_equal = length == stop - start
        for i in range(length if is_equal else 0):
            if text[first + i] != query[start + i]:
                is_equal = False
                break
        if is_equal:
            break
        entry = (entry + np.uint64(1)) & mask
    return entry


@cached_njit
def insert_names(table, text, starts):
    """Insert all names into an empty table; return the number of the first repeated one, or -1.

    Args:
        table: integers [capacity], all -1.
        text: uint8, the names end to end.
        starts: of each name and the end of the last, [N + 1].
    """
    for number in range(len(starts) - 1):
        entry = _find(table, text, starts, text, starts[number], starts[number + 1])
        if table[entry] >= 0:
            return number
        table[entry] = number
    return -1


@cached_njit
def find_names(table, text, starts, query, query_starts):
    """Return the number of each name of `query`, int64 [n]; -1 for a name that is not in the table.

    Args:
        table, text, starts: as in `insert_names`.
        query: uint8, the names to find end to end.
        query_starts: of each and the end of the last, [n + 1].
    """
    found = np.empty(len(query_starts) - 1, dtype=np.int64)
    for i in range(len(found)):
        entry = _find(table, text, starts, query, query_starts[i], query_starts[i + 1])
        found[i] = table[entry]
    return found
