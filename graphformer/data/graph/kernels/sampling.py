"""Kernels of the samplers: draws that depend on their place alone, and numbers for keys."""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import numpy as np

from graphformer.data.graph.kernels.jit import cached_njit

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MAX_FLOYD = 64  # draws without replacement that are compared with one another


@cached_njit
def _hash(a, b):
    """A hash of two numbers: the finaliser of splitmix64 over their sum."""
    z = a + (b + np.uint64(1)) * _GOLDEN
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@cached_njit
def _uniform_below(key, draw, bound):
    """A number from 0 to bound - 1; the high 32 bits scaled, which is even to 1 in 2^32 / bound."""
    high = _hash(key, np.uint64(draw)) >> np.uint64(32)
    return np.int64((high * np.uint64(bound)) >> np.uint64(32))


@cached_njit
def draw_neighbors(indptr, nodes, roots, counts, replace, seed):
    """The CSR slots [sum(counts)] that each node draws; `seed` is the draws' seed and the hop."""
    slots = np.empty(counts.sum(), dtype=np.int64)
    stream = _hash(np.uint64(seed[0]), np.uint64(seed[1]))
    at = 0
    for i in range(len(nodes)):
        begin, degree, count = indptr[nodes[i]], indptr[nodes[i] + 1] - indptr[nodes[i]], counts[i]
        key = _hash(_hash(stream, np.uint64(nodes[i])), np.uint64(roots[i]))
        out = slots[at : at + count]
        if replace and count != degree:
            for draw in range(count):
                out[draw] = begin + _uniform_below(key, draw, degree)
        elif count == degree:
            for draw in range(count):
                out[draw] = begin + draw
        elif count <= _MAX_FLOYD:
            _floyd(out, begin, degree, key)
        else:
            _select(out, begin, degree, key)
        at += count
    return slots


@cached_njit
def _floyd(out, begin, degree, key):
    """Draw without replacement by Floyd's rule, in time that does not grow with the degree."""
    for draw in range(len(out)):
        last = degree - len(out) + draw
        chosen = begin + _uniform_below(key, draw, last + 1)
        for before in range(draw):
            if out[before] == chosen:
                chosen = begin + last
                break
        out[draw] = chosen


@cached_njit
def _select(out, begin, degree, key):
    """Draw without replacement by going over all neighbours once (Knuth's algorithm S)."""
    taken = 0
    for neighbor in range(degree):
        if _uniform_below(key, neighbor, degree - neighbor) < len(out) - taken:
            out[taken] = begin + neighbor
            taken += 1


@cached_njit
def insert_keys(table_keys, table_values, keys, first):
    """The number [k] of each key, new ones counted on from `first`; and which are new [k]."""
    numbers = np.empty(len(keys), dtype=np.int64)
    is_new = np.zeros(len(keys), dtype=np.bool_)
    mask = np.uint64(len(table_keys) - 1)
    for i in range(len(keys)):
        place = _hash(np.uint64(keys[i]), np.uint64(0)) & mask
        while table_values[place] >= 0 and table_keys[place] != keys[i]:
            place = (place + np.uint64(1)) & mask
        if table_values[place] < 0:
            table_keys[place], table_values[place] = keys[i], first
            is_new[i] = True
            first += 1
        numbers[i] = table_values[place]
    return numbers, is_new


@cached_njit
def rehash(table_keys, table_values, keys, values):
    """Put keys and their numbers into an empty table."""
    mask = np.uint64(len(table_keys) - 1)
    for i in range(len(keys)):
        place = _hash(np.uint64(keys[i]), np.uint64(0)) & mask
        while table_values[place] >= 0:
            place = (place + np.uint64(1)) & mask
        table_keys[place], table_values[place] = keys[i], values[i]


@cached_njit
def induced_edges(indptr, indices, nodes, local):
    """The edges whose ends both have a local number: sources, targets and slots."""
    count = 0
    for node in nodes:
        for slot in range(indptr[node], indptr[node + 1]):
            count += local[indices[slot]] >= 0
    source, target = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64)
    slots = np.empty(count, dtype=np.int64)
    at = 0
    for i in range(len(nodes)):
        for slot in range(indptr[nodes[i]], indptr[nodes[i] + 1]):
            if local[indices[slot]] >= 0:
                source[at], target[at], slots[at] = local[indices[slot]], i, slot
                at += 1
    return source, target, slots
