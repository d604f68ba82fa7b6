"""Steps on a tile of edges that only some calls need, compiled separately on first use.

Except for `list_edges`, `list_neighbours` and the dropout of plain tensors, a step is
`step(table, x, stride, count, edges, base)`: the tile's numbers x[h * stride + e], the list of its
`count` edges (slots or ids) and, for steps that read or write one, the address of an array [E, H].
"""

# mypy: disable-error-code="misc,no-untyped-call,no-untyped-def"
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphformer.ops.cpu.kernels import argument_table as at
from graphformer.ops.cpu.kernels.argument_table import AHEAD, CAPACITY
from graphformer.ops.cpu.kernels.simd import as_float, pointer, read_index, shift
from graphformer.ops.cpu.kernels.vector_math import is_kept


def list_edges(table, begin, count, nodes):
    """Fill the three lists of a tile: neighbours, slots and ids of `count` edges from `begin` on.

    12 more entries repeat the last edge: kernels process four edges at a time and prefetch ahead.
    """
    slots = shift(nodes, CAPACITY)
    ids = shift(slots, CAPACITY)
    wide, by_source, edge_ids = table[at.WIDE], table[at.SLOTS], table[at.EDGE_IDS]
    node = slot = edge_id = 0
    for e in range(count):
        node = read_index(table[at.NEIGHBOURS], wide, begin + e)
        slot = begin + e
        if by_source != 0:  # positions in the by-target order
            slot = read_index(by_source, wide, begin + e)
        edge_id = pointer(edge_ids, table)[slot] if edge_ids != 0 else slot
        nodes[e] = node
        slots[e] = slot
        ids[e] = edge_id
    for e in range(count, count + 12):
        nodes[e] = node
        slots[e] = slot
        ids[e] = edge_id
    for e in range(4):
        slot = min(begin + count + e, table[at.NUM_SLOTS] - 1)
        nodes[AHEAD + e] = read_index(table[at.NEIGHBOURS], wide, slot)


def list_neighbours(table, begin, count, nodes):
    """Fill the first of the lists of `list_edges` only, for calls that have no values of edges."""
    neighbours, wide, last = table[at.NEIGHBOURS], table[at.WIDE], table[at.NUM_SLOTS] - 1
    if wide != 0:  # a loop for each type: the test within one would keep it from being vectorised
        for e in range(count):
            nodes[e] = read_index(neighbours, 1, begin + e)
    else:
        for e in range(count):
            nodes[e] = read_index(neighbours, 0, begin + e)
    node = read_index(neighbours, wide, begin + count - 1)
    for e in range(12):
        nodes[count + e] = node
    for e in range(4):
        nodes[AHEAD + e] = read_index(neighbours, wide, min(begin + count + e, last))


def multiply(table, x, stride, count, ids, base):
    """x = x * edge_weight."""
    weight = pointer(table[at.WEIGHT], x)
    step, head = table[at.WEIGHT_STRIDE], table[at.WEIGHT_HEAD]
    for e in range(count):
        for h in range(table[at.HEADS]):
            x[h * stride + e] *= weight[ids[e] * step + h * head]


def add_bias(table, x, stride, count, ids, base):
    """x = x + bias."""
    bias = pointer(table[at.BIAS], x)
    step, head = table[at.BIAS_STRIDE], table[at.BIAS_HEAD]
    for e in range(count):
        for h in range(table[at.HEADS]):
            x[h * stride + e] += bias[ids[e] * step + h * head]


def drop(table, x, stride, count, slots, base):
    """x = x * mask / (1 - dropout), with the mask of `graphformer.ops.common.dropout_mask`."""
    heads, seed, threshold = table[at.HEADS], table[at.SEED], table[at.DROPOUT]
    scale = as_float(table[at.KEEP_SCALE])
    for h in range(heads):
        for e in range(count):
            keep = is_kept(seed, slots[e] * heads + h, threshold)
            x[h * stride + e] = x[h * stride + e] * scale if keep else 0.0


def write_edges(table, x, stride, count, ids, base):
    """array[ids] = x."""
    array, heads = pointer(base, x), table[at.HEADS]
    for e in range(count):
        for h in range(heads):
            array[ids[e] * heads + h] = x[h * stride + e]


def add_edges(table, x, stride, count, ids, base):
    """x += array[ids]."""
    array, heads = pointer(base, x), table[at.HEADS]
    for e in range(count):
        for h in range(heads):
            x[h * stride + e] += array[ids[e] * heads + h]


# Dropout of plain tensors -----------------------------------------------------------------------

SPAN = 1 << 14
"""Elements per work item."""


def make_dropout() -> Callable[..., Any]:
    """out = v * mask / (1 - dropout) for the `width` elements of a tensor v, span by span.

    The generator is the one that also drops attention weights.
    """

    def dropout(item, table, scratch):
        begin = item * SPAN
        x, out = pointer(table[at.V], scratch), pointer(table[at.OUT], scratch)
        x, out = shift(x, begin), shift(out, begin)
        seed, threshold, scale = table[at.SEED], table[at.DROPOUT], as_float(table[at.KEEP_SCALE])
        for i in range(min(SPAN, table[at.WIDTH] - begin)):
            out[i] = x[i] * scale if is_kept(seed, begin + i, threshold) else 0.0

    return dropout
