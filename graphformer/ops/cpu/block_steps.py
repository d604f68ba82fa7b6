"""Sweeps over the edges of a block that only some calls need, compiled by themselves when used.

Each is `sweep(table, x, stride, n, edges, base)`: the block's numbers `x[h * stride + e]`, a list
of n edges (slots or the caller's numbers) and, where it reads or writes one, the address of a
tensor [E, H].
"""

# mypy: disable-error-code="misc,no-untyped-call,no-untyped-def"
from __future__ import annotations

from graphformer.ops.cpu import argument_table as at
from graphformer.ops.cpu.argument_table import CAPACITY
from graphformer.ops.cpu.simd import as_float, pointer, read_index, shift
from graphformer.ops.cpu.vector_math import is_kept


def list_edges(table, begin, n, nodes):
    """The neighbour, slot and caller's number of n edges, three lists; each ends with spare ones.

    The spare ones repeat the last edge: kernels take four edges at a time, and look ahead.
    """
    slots = shift(nodes, CAPACITY)
    ids = shift(slots, CAPACITY)
    wide = table[at.WIDE]
    for e in range(n):
        nodes[e] = read_index(table[at.NEIGHBOURS], wide, begin + e)
        slots[e] = begin + e
    if table[at.SLOTS] != 0:
        for e in range(n):
            slots[e] = read_index(table[at.SLOTS], wide, begin + e)
    for e in range(n):
        ids[e] = slots[e]
    if table[at.EDGE_IDS] != 0:
        edge_ids = pointer(table[at.EDGE_IDS], table)
        for e in range(n):
            ids[e] = edge_ids[slots[e]]
    for e in range(n, n + 12):
        nodes[e] = nodes[n - 1]
        slots[e] = slots[n - 1]
        ids[e] = ids[n - 1]


def multiply(table, x, stride, n, ids, base):
    """x = x * edge_weight."""
    weight = pointer(table[at.WEIGHT], x)
    step, head = table[at.WEIGHT_STRIDE], table[at.WEIGHT_HEAD]
    for e in range(n):
        for h in range(table[at.HEADS]):
            x[h * stride + e] *= weight[ids[e] * step + h * head]


def add_bias(table, x, stride, n, ids, base):
    """x = x + bias."""
    bias = pointer(table[at.BIAS], x)
    step, head = table[at.BIAS_STRIDE], table[at.BIAS_HEAD]
    for e in range(n):
        for h in range(table[at.HEADS]):
            x[h * stride + e] += bias[ids[e] * step + h * head]


def drop(table, x, stride, n, slots, base):
    """x = x * mask / (1 - dropout)."""
    heads, seed, threshold = table[at.HEADS], table[at.SEED], table[at.DROPOUT]
    scale = as_float(table[at.KEEP_SCALE])
    for h in range(heads):
        for e in range(n):
            keep = is_kept(seed, slots[e] * heads + h, threshold)
            x[h * stride + e] = x[h * stride + e] * scale if keep else 0.0


def write_edges(table, x, stride, n, ids, base):
    """tensor[ids] = x."""
    tensor, heads = pointer(base, x), table[at.HEADS]
    for e in range(n):
        for h in range(heads):
            tensor[ids[e] * heads + h] = x[h * stride + e]


def add_edges(table, x, stride, n, ids, base):
    """x += tensor[ids]."""
    tensor, heads = pointer(base, x), table[at.HEADS]
    for e in range(n):
        for h in range(heads):
            x[h * stride + e] += tensor[ids[e] * heads + h]
