"""Numba kernels of the samplers: neighbour draws by a counter-based hash, and a hash table.

A draw is a hash of (seed, node, root, index of the draw). It depends on no earlier draw, so
that a resumed run, another order of the nodes or another number of workers give the same samples.
Edges are named by their slot, the index of an edge in the CSR arrays of the adjacency.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import numpy as np

from graphformer.jit import cached_njit

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio, the increment of splitmix64
_MAX_FLOYD = 64  # above it, comparing all pairs of draws costs more than one pass over the row


@cached_njit
def _hash(a, b):
    """Return a 64-bit hash of two numbers: the finaliser of splitmix64 of a + (b + 1) * golden.

    Source: Steele, Lea and Flood, 2014, "Fast splittable pseudorandom number generators".
    """
    z = a + (b + np.uint64(1)) * _GOLDEN
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@cached_njit
def _uniform_below(key, draw, bound):
    """Return an integer from 0 to bound - 1: the high 32 bits of the hash times bound / 2^32.

    A multiplication replaces the modulus; the bias is at most bound / 2^32.
    """
    high = _hash(key, np.uint64(draw)) >> np.uint64(32)
    return np.int64((high * np.uint64(bound)) >> np.uint64(32))


@cached_njit
def draw_neighbors(indptr, nodes, roots, counts, replace, seed):
    """Return the slots of the in-edges drawn for each node, int64 [sum(counts)].

    O(count) a node, or O(degree) for more than 64 draws without replacement.

    Args:
        indptr: CSR row starts, [N + 1].
        nodes: the nodes to draw for, [n].
        roots: number of the seed node that each node belongs to, part of the hash, [n].
        counts: number of draws of each node, at most its degree unless `replace`, [n].
        replace: draw with replacement.
        seed: of the sample.
    """
    slots = np.empty(counts.sum(), dtype=np.int64)
    stream = _hash(np.uint64(seed), np.uint64(0))
    start = 0
    for i in range(len(nodes)):
        begin, degree, count = indptr[nodes[i]], indptr[nodes[i] + 1] - indptr[nodes[i]], counts[i]
        key = _hash(_hash(stream, np.uint64(nodes[i])), np.uint64(roots[i]))
        out = slots[start : start + count]
        if replace and count != degree:
            for draw in range(count):
                out[draw] = begin + _uniform_below(key, draw, degree)
        elif count == degree:  # the whole row: no draw needed
            for draw in range(count):
                out[draw] = begin + draw
        elif count <= _MAX_FLOYD:
            _draw_floyd(out, begin, degree, key)
        else:
            _draw_by_selection(out, begin, degree, key)
        start += count
    return slots


@cached_njit
def _draw_floyd(out, begin, degree, key):
    """Fill `out` with k distinct slots by Floyd's algorithm: O(k^2), independent of the degree.

    Draw number i is uniform over the first degree - k + i + 1 slots; if the slot is taken, the last
    of them, which no earlier draw could reach, replaces it.

    Source: Bentley and Floyd, 1987, "Programming pearls: a sample of brilliance".
    """
    for draw in range(len(out)):
        last = degree - len(out) + draw
        chosen = begin + _uniform_below(key, draw, last + 1)
        for previous in range(draw):
            if out[previous] == chosen:
                chosen = begin + last
                break
        out[draw] = chosen


@cached_njit
def _draw_by_selection(out, begin, degree, key):
    """Fill `out` with k distinct slots in one pass over the row: O(degree).

    Slot i is taken with probability (k - taken) / (degree - i), which takes exactly k.

    Source: Knuth, The Art of Computer Programming, volume 2, section 3.4.2, algorithm S.
    """
    taken = 0
    for neighbor in range(degree):
        if _uniform_below(key, neighbor, degree - neighbor) < len(out) - taken:
            out[taken] = begin + neighbor
            taken += 1


@cached_njit
def insert_keys(table_keys, table_values, keys, first):
    """Look up or insert keys in an open-addressing hash table; O(1) expected a key.

    Args:
        table_keys: int64 [capacity], a power of two larger than the number of entries.
        table_values: int64 [capacity], -1 for an empty entry.
        keys: int64 [k].
        first: value of the first new key; later new keys count up.

    Returns:
        The value of each key, int64 [k], and whether the key is new, bool [k].
    """
    values = np.empty(len(keys), dtype=np.int64)
    is_new = np.zeros(len(keys), dtype=np.bool_)
    mask = np.uint64(len(table_keys) - 1)  # capacity is a power of two: & replaces %
    for i in range(len(keys)):
        entry = _hash(np.uint64(keys[i]), np.uint64(0)) & mask
        while table_values[entry] >= 0 and table_keys[entry] != keys[i]:  # linear probing
            entry = (entry + np.uint64(1)) & mask
        if table_values[entry] < 0:
            table_keys[entry], table_values[entry] = keys[i], first
            is_new[i] = True
            first += 1
        values[i] = table_values[entry]
    return values, is_new


@cached_njit
def rehash(table_keys, table_values, keys, values):
    """Insert distinct keys with their values into an empty table, after its capacity grew."""
    mask = np.uint64(len(table_keys) - 1)
    for i in range(len(keys)):
        entry = _hash(np.uint64(keys[i]), np.uint64(0)) & mask
        while table_values[entry] >= 0:
            entry = (entry + np.uint64(1)) & mask
        table_keys[entry], table_values[entry] = keys[i], values[i]


@cached_njit
def induced_edges(indptr, indices, nodes, local):
    """Return the edges between some nodes: local sources, local targets and slots, int64 [e] each.

    Two passes over the rows of the nodes, O(sum of their degrees): count, then fill.

    Args:
        indptr, indices: CSR of the graph, a row a target.
        nodes: distinct nodes, [n].
        local: index in `nodes` of each node of the graph, -1 for the others, [N].
    """
    count = 0
    for node in nodes:
        for slot in range(indptr[node], indptr[node + 1]):
            count += local[indices[slot]] >= 0
    source, target = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64)
    slots = np.empty(count, dtype=np.int64)
    edge = 0
    for i in range(len(nodes)):
        for slot in range(indptr[nodes[i]], indptr[nodes[i] + 1]):
            if local[indices[slot]] >= 0:
                source[edge], target[edge], slots[edge] = local[indices[slot]], i, slot
                edge += 1
    return source, target, slots
