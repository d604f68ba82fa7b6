"""Walks over one graph, compiled: shortest paths by breadth-first search, and random walks.

Graphs come as neighbour lists: node i's neighbours are `neighbors[indptr[i]:indptr[i + 1]]`.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from graphformer.data.graph.kernels.jit import cached_njit

Array = NDArray[Any]
_MAX_PAIRS = 200_000_000


class NeighborLists(NamedTuple):
    """The neighbours of all nodes."""

    indptr: Array
    """Where each node's neighbours begin, int64 [N + 1]."""
    neighbors: Array
    """int64 [E]."""


def make_neighbor_lists(node: Array, neighbor: Array, num_nodes: int) -> NeighborLists:
    """The lists of pairs (node, neighbor), each node's in the order given."""
    indptr = np.zeros(num_nodes + 1, dtype=np.int64)
    np.cumsum(np.bincount(node, minlength=num_nodes), out=indptr[1:])
    return NeighborLists(indptr, neighbor[np.argsort(node, kind="stable")].astype(np.int64))


def shortest_paths(outgoing: NeighborLists, radius: int, *, nodes: bool) -> tuple[Array, Array]:
    """All pairs of nodes at most `radius` steps apart, each node with itself included.

    Args:
        outgoing: where each node's edges lead.
        radius: the longest path.
        nodes: whether to list the nodes along one shortest path, or only its ends.

    Returns:
        int32 [radius + 1, P], the node at each step from source to target, the target repeated
        for shorter paths, or [2, P] without `nodes`; and the lengths, int32 [P].

    Raises ValueError for more than 200 million pairs.
    """
    size = len(outgoing.indptr) - 1
    reached = np.zeros(size, dtype=np.int64)
    _in_threads(lambda first, last: _count_reached(*outgoing, first, last, radius, reached), size)
    starts = np.concatenate([[0], np.cumsum(reached)])
    if starts[-1] > _MAX_PAIRS:
        raise ValueError(
            f"max_distance {radius} is too large for a graph of {size:,} nodes: {starts[-1]:,} "
            f"pairs are that near, more than {_MAX_PAIRS:,}; take a smaller one"
        )
    paths = np.empty((radius + 1 if nodes else 2, starts[-1]), dtype=np.int32)
    lengths = np.empty(starts[-1], dtype=np.int32)
    _in_threads(
        lambda first, last: _list_paths(*outgoing, first, last, radius, starts, paths, lengths),
        size,
    )
    return paths, lengths


def return_probabilities(outgoing: NeighborLists, incoming: NeighborLists, steps: int) -> Array:
    """The probability of being back after 1 to `steps` steps of a random walk, float64 [N, steps].

    A step takes any outgoing edge with the same probability. Memory is O(N) a thread: both halves
    of a walk are followed from each node, P^k_ii = sum_j P^s_ij P^t_ji with s + t = k.
    """
    size = len(outgoing.indptr) - 1
    out = np.zeros((size, steps))
    _in_threads(lambda first, last: _walk(*outgoing, *incoming, first, last, out), size)
    return out


def _in_threads(work: Callable[[int, int], None], size: int) -> None:
    """Call `work(first, last)` for ranges of nodes, side by side where there are many."""
    threads = min(_num_threads(), max(size // 256, 1))
    if threads == 1:
        work(0, size)
        return
    borders = np.linspace(0, size, 8 * threads + 1).astype(int).tolist()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, borders[:-1], borders[1:]))


def _num_threads() -> int:
    # numba's own limit, so that NUMBA_NUM_THREADS and the processor's affinity count.
    return min(numba.config.NUMBA_NUM_THREADS, os.cpu_count() or 1)


@cached_njit
def _search(indptr, neighbors, start, radius, seen, queue, depth, parent):
    """Breadth-first search from a node: fills queue[:count] and returns count.

    `seen` holds the last start that reached each node.
    """
    queue[0], depth[0], parent[0] = start, 0, 0
    seen[start] = start
    count, head = 1, 0
    while head < count:
        if depth[head] == radius:
            break
        node = queue[head]
        for place in range(indptr[node], indptr[node + 1]):
            neighbor = neighbors[place]
            if seen[neighbor] != start:
                seen[neighbor] = start
                queue[count], depth[count], parent[count] = neighbor, depth[head] + 1, head
                count += 1
        head += 1
    return count


@cached_njit
def _count_reached(indptr, neighbors, first, last, radius, reached):
    size = len(indptr) - 1
    seen = np.full(size, -1, dtype=np.int64)
    queue = np.empty(size, dtype=np.int64)
    depth = np.empty(size, dtype=np.int64)
    parent = np.empty(size, dtype=np.int64)
    for node in range(first, last):
        reached[node] = _search(indptr, neighbors, node, radius, seen, queue, depth, parent)


@cached_njit
def _list_paths(indptr, neighbors, first, last, radius, starts, paths, lengths):
    size = len(indptr) - 1
    seen = np.full(size, -1, dtype=np.int64)
    queue = np.empty(size, dtype=np.int64)
    depth = np.empty(size, dtype=np.int64)
    parent = np.empty(size, dtype=np.int64)
    rows = paths.shape[0]
    for node in range(first, last):
        count = _search(indptr, neighbors, node, radius, seen, queue, depth, parent)
        for number in range(count):
            pair = starts[node] + number
            lengths[pair] = depth[number]
            paths[0, pair], paths[rows - 1, pair] = node, queue[number]
            if rows > 2:
                at = number
                for row in range(rows - 1, -1, -1):
                    paths[row, pair] = queue[at]
                    if row <= depth[at] and at > 0:
                        at = parent[at]


@cached_njit
def _spread(vector, active, count, indptr, neighbors, share, forward, after, listed):
    """One step of a sparse vector along edges; returns the number of entries of `after`.

    Forward a node gives each neighbour its `share`; else it takes what that neighbour would get.
    Empties `vector`.
    """
    found = 0
    for number in range(count):
        node = active[number]
        value = vector[node] * share[node] if forward else vector[node]
        vector[node] = 0.0
        if value == 0.0:  # too small for a number; zero tells that a node is not listed yet
            continue
        for place in range(indptr[node], indptr[node + 1]):
            other = neighbors[place]
            if after[other] == 0.0:
                listed[found] = other
                found += 1
            after[other] += value
    if not forward:
        for number in range(found):
            after[listed[number]] *= share[listed[number]]
    return found


@cached_njit
def _walk(out_indptr, out_neighbors, in_indptr, in_neighbors, first, last, result):
    size = len(out_indptr) - 1
    share = 1.0 / np.maximum(out_indptr[1:] - out_indptr[:-1], 1)
    steps = result.shape[1]
    there, there_next = np.zeros(size), np.zeros(size)
    back, back_next = np.zeros(size), np.zeros(size)
    there_at, there_at_next = np.empty(size, np.int64), np.empty(size, np.int64)
    back_at, back_at_next = np.empty(size, np.int64), np.empty(size, np.int64)
    for node in range(first, last):
        there[node] = back[node] = 1.0
        there_at[0] = back_at[0] = node
        there_count = back_count = 1
        for step in range(steps):
            if step % 2 == 0:
                there_count = _spread(
                    there, there_at, there_count, out_indptr, out_neighbors, share, True,
                    there_next, there_at_next,
                )  # fmt: skip
                there, there_next = there_next, there
                there_at, there_at_next = there_at_next, there_at
            else:
                back_count = _spread(
                    back, back_at, back_count, in_indptr, in_neighbors, share, False,
                    back_next, back_at_next,
                )  # fmt: skip
                back, back_next = back_next, back
                back_at, back_at_next = back_at_next, back_at
            total = 0.0
            for number in range(there_count):
                total += there[there_at[number]] * back[there_at[number]]
            result[node, step] = total
        for number in range(there_count):
            there[there_at[number]] = 0.0
        for number in range(back_count):
            back[back_at[number]] = 0.0
