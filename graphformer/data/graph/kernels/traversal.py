"""Numba kernels that traverse one graph: breadth-first shortest paths and random walks.

A graph is given as adjacency lists: `neighbors[indptr[i]:indptr[i + 1]]` are those of node i.
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

from graphformer.jit import cached_njit

Array = NDArray[Any]
_MAX_PAIRS = 200_000_000  # 0.8 GB for each int32 row of paths
_MIN_NODES_PER_THREAD = 256
_RANGES_PER_THREAD = 8  # more ranges than threads, as dense regions take longer


class NeighborLists(NamedTuple):
    """The neighbours of all nodes, in CSR form."""

    indptr: Array
    """First entry of each node in `neighbors`, int64 [N + 1]."""
    neighbors: Array
    """int64 [E]."""


def make_neighbor_lists(node: Array, neighbor: Array, num_nodes: int) -> NeighborLists:
    """Group pairs (node, neighbor), [E] each, by node; the order within a node is that given."""
    indptr = np.zeros(num_nodes + 1, dtype=np.int64)
    np.cumsum(np.bincount(node, minlength=num_nodes), out=indptr[1:])
    return NeighborLists(indptr, neighbor[np.argsort(node, kind="stable")].astype(np.int64))


def shortest_paths(outgoing: NeighborLists, radius: int, *, nodes: bool) -> tuple[Array, Array]:
    """Return all ordered pairs of nodes at most `radius` steps apart, each node with itself too.

    One breadth-first search a node, run twice: a first pass counts the pairs to size the arrays.
    O(N * edges within the radius) time; O(N) memory a thread beside the result.

    Args:
        outgoing: the targets of each node's out-edges.
        radius: the largest distance.
        nodes: return the nodes along one shortest path, not only its ends.

    Returns:
        Paths, int32 [radius + 1, P]: the node at each step from source to target, the target
        repeated for shorter paths; or [2, P], source and target, without `nodes`. And the lengths,
        int32 [P].

    Raises:
        ValueError: for more than 200 million pairs.
    """
    size = len(outgoing.indptr) - 1
    reached = np.zeros(size, dtype=np.int64)
    _in_threads(lambda first, last: _count_reached(*outgoing, first, last, radius, reached), size)
    starts = np.concatenate([[0], np.cumsum(reached)])
    if starts[-1] > _MAX_PAIRS:
        raise ValueError(
            f"max_distance: got {radius}, for which a graph of {size:,} nodes has {starts[-1]:,} "
            f"pairs, expected at most {_MAX_PAIRS:,}; choose a smaller distance"
        )
    paths = np.empty((radius + 1 if nodes else 2, starts[-1]), dtype=np.int32)
    lengths = np.empty(starts[-1], dtype=np.int32)
    _in_threads(
        lambda first, last: _list_paths(*outgoing, first, last, radius, starts, paths, lengths),
        size,
    )
    return paths, lengths


def return_probabilities(outgoing: NeighborLists, incoming: NeighborLists, steps: int) -> Array:
    r"""Return the probability that a random walk is back at its start, float64 [N, steps].

    Column k - 1 is the diagonal of P^k, where P_ij = (edges from i to j) / (out-degree of i):

    .. math::
        P^k_{ii} = \sum_j P^s_{ij} P^t_{ji}, \quad s = \lceil k / 2 \rceil, \ t = \lfloor k / 2
        \rfloor

    so each node needs s steps along the out-edges and t against the in-edges, and O(N) memory a
    thread, where a matrix power needs O(N^2).

    Args:
        outgoing: the targets of each node's out-edges.
        incoming: the sources of each node's in-edges.
        steps: the largest k.
    """
    size = len(outgoing.indptr) - 1
    out = np.zeros((size, steps))
    _in_threads(
        lambda first, last: _return_probabilities(*outgoing, *incoming, first, last, out), size
    )
    return out


def _in_threads(work: Callable[[int, int], None], size: int) -> None:
    """Call `work(first, last)` for ranges of nodes, in parallel for large graphs."""
    threads = min(_num_threads(), max(size // _MIN_NODES_PER_THREAD, 1))
    if threads == 1:
        work(0, size)
        return
    borders = np.linspace(0, size, _RANGES_PER_THREAD * threads + 1).astype(int).tolist()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, borders[:-1], borders[1:]))


def _num_threads() -> int:
    # numba's own limit respects NUMBA_NUM_THREADS and the CPU affinity of the process.
    return min(numba.config.NUMBA_NUM_THREADS, os.cpu_count() or 1)


@cached_njit
def _search(indptr, neighbors, start, radius, visited_by, queue, depth, parent):
    """Breadth-first search from `start` up to `radius`; returns the number of reached nodes.

    Fills queue[:count] with the nodes in order of distance, depth[:count] with their distances and
    parent[:count] with the queue index of each node's predecessor. visited_by[j] is the last start
    that reached node j, so the array needs no reset between searches.
    """
    queue[0], depth[0], parent[0] = start, 0, 0
    visited_by[start] = start
    count, head = 1, 0
    while head < count:
        if depth[head] == radius:  # the queue is ordered by depth: all later ones are as deep
            break
        node = queue[head]
        for slot in range(indptr[node], indptr[node + 1]):
            neighbor = neighbors[slot]
            if visited_by[neighbor] != start:
                visited_by[neighbor] = start
                queue[count], depth[count], parent[count] = neighbor, depth[head] + 1, head
                count += 1
        head += 1
    return count


@cached_njit
def _count_reached(indptr, neighbors, first, last, radius, reached):
    """Write the number of nodes within `radius` of nodes first .. last - 1 to `reached`."""
    size = len(indptr) - 1
    visited_by = np.full(size, -1, dtype=np.int64)
    queue = np.empty(size, dtype=np.int64)
    depth = np.empty(size, dtype=np.int64)
    parent = np.empty(size, dtype=np.int64)
    for node in range(first, last):
        reached[node] = _search(indptr, neighbors, node, radius, visited_by, queue, depth, parent)


@cached_njit
def _list_paths(indptr, neighbors, first, last, radius, starts, paths, lengths):
    """Write the paths and lengths of the pairs with source first .. last - 1.

    The pairs of source i are columns starts[i] .. starts[i + 1] - 1, in order of distance.
    """
    size = len(indptr) - 1
    visited_by = np.full(size, -1, dtype=np.int64)
    queue = np.empty(size, dtype=np.int64)
    depth = np.empty(size, dtype=np.int64)
    parent = np.empty(size, dtype=np.int64)
    rows = paths.shape[0]
    for node in range(first, last):
        count = _search(indptr, neighbors, node, radius, visited_by, queue, depth, parent)
        for reached in range(count):
            pair = starts[node] + reached
            lengths[pair] = depth[reached]
            paths[0, pair], paths[rows - 1, pair] = node, queue[reached]
            if rows > 2:
                # Backwards from the target. Rows below the target's depth repeat the target: the
                # walk moves to the parent only once the row is the depth of the current node.
                position = reached
                for row in range(rows - 1, -1, -1):
                    paths[row, pair] = queue[position]
                    if row <= depth[position] and position > 0:
                        position = parent[position]


@cached_njit
def _step(vector, active, count, indptr, neighbors, share, forward, after, after_active):
    """Compute x P (forward, x a row) or P x (backward, x a column); returns its number of entries.

    `vector` [N] has its non-zero entries at active[:count], and is zero on return. The result is
    added to `after` [N], zero on entry, and its entries are listed in `after_active`. share[i] is
    1 / out-degree: forward, node i sends value * share[i] to each target; backward, the values are
    summed over the sources and then multiplied by the receiving node's share.
    """
    found = 0
    for entry in range(count):
        node = active[entry]
        value = vector[node] * share[node] if forward else vector[node]
        vector[node] = 0.0
        if value == 0.0:  # underflow; a zero would make `after` list the neighbour twice
            continue
        for slot in range(indptr[node], indptr[node + 1]):
            other = neighbors[slot]
            if after[other] == 0.0:
                after_active[found] = other
                found += 1
            after[other] += value
    if not forward:
        for entry in range(found):
            after[after_active[entry]] *= share[after_active[entry]]
    return found


@cached_njit
def _return_probabilities(out_indptr, out_neighbors, in_indptr, in_neighbors, first, last, result):
    """Write the return probabilities of nodes first .. last - 1 to their rows of `result`.

    For start i, `ahead` holds the row P^s_i. and `back` the column P^t_.i, both sparse. Odd steps
    advance `ahead`, even steps `back`; their dot product is P^(s + t)_ii.
    """
    size = len(out_indptr) - 1
    share = 1.0 / np.maximum(out_indptr[1:] - out_indptr[:-1], 1)
    steps = result.shape[1]
    ahead, ahead_next = np.zeros(size), np.zeros(size)
    back, back_next = np.zeros(size), np.zeros(size)
    ahead_active, ahead_active_next = np.empty(size, np.int64), np.empty(size, np.int64)
    back_active, back_active_next = np.empty(size, np.int64), np.empty(size, np.int64)
    for node in range(first, last):
        ahead[node] = back[node] = 1.0  # P^0 is the identity
        ahead_active[0] = back_active[0] = node
        ahead_count = back_count = 1
        for step in range(steps):
            if step % 2 == 0:
                ahead_count = _step(
                    ahead, ahead_active, ahead_count, out_indptr, out_neighbors, share, True,
                    ahead_next, ahead_active_next,
                )  # fmt: skip
                ahead, ahead_next = ahead_next, ahead
                ahead_active, ahead_active_next = ahead_active_next, ahead_active
            else:
                back_count = _step(
                    back, back_active, back_count, in_indptr, in_neighbors, share, False,
                    back_next, back_active_next,
                )  # fmt: skip
                back, back_next = back_next, back
                back_active, back_active_next = back_active_next, back_active
            total = 0.0
            for entry in range(ahead_count):
                total += ahead[ahead_active[entry]] * back[ahead_active[entry]]
            result[node, step] = total
        # Reset the entries in use only: O(entries), not O(N), a node.
        for entry in range(ahead_count):
            ahead[ahead_active[entry]] = 0.0
        for entry in range(back_count):
            back[back_active[entry]] = 0.0
