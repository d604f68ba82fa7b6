"""Pieces of kernels that read and write rows of features; inlined into them.

`nodes[e]` is the neighbour on edge e; its row begins at `nodes[e] * step`. Head h of group g lies
`h * head + g * group` into a row, which says both one row a head and one a group of heads. Lists
of edges are padded with their last one to a multiple of four.
"""

# mypy: disable-error-code="misc,no-untyped-call,no-untyped-def"
from __future__ import annotations

from numba import njit

from graphformer.ops.cpu.simd import (
    lanes_of,
    load,
    load_first,
    pointer,
    prefetch,
    shift,
    splat,
    store,
    store_first,
)
from graphformer.ops.cpu.vector_math import leaky, leaky_slope, store_totals, total

inlined = njit(
    forceinline=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True
)


@inlined
def whole_lines(count):
    """`count` numbers, made up to whole cache lines of the scratch."""
    return (count + 15) & -16


@inlined
def fill(x, count, value, zero):
    """x[:count] = value."""
    lanes = lanes_of(zero)
    whole = count - count % lanes
    values = splat(value, zero)
    for i in range(0, whole, lanes):
        store(x, i, values)
    if whole < count:
        store_first(x, whole, count - whole, values)


@inlined
def scaled(target, source, count, factor, zero):
    """target[:count] = factor * source[:count]."""
    lanes = lanes_of(zero)
    whole = count - count % lanes
    factors = splat(factor, zero)
    for i in range(0, whole, lanes):
        store(target, i, load(source, i, zero) * factors)
    if whole < count:
        rest = count - whole
        store_first(target, whole, rest, load_first(source, whole, rest, zero) * factors)


@inlined
def fetch(base, offset, length, zero):
    """Ask for a row ahead of its use."""
    for line in range(0, length, 16):
        prefetch(base, offset + line)


@inlined
def dots(
    result, stride, own, own_head, own_group, base, nodes, step, row_head, row_group,
    n, repeat, kv_heads, width, zero, length,
):  # fmt: skip
    """result[h, e] = own row . neighbour's row, for all heads, four edges at a time."""
    lanes = lanes_of(zero)
    whole = width - width % lanes
    for e in range(0, n, 4):
        o0, o1 = nodes[e] * step, nodes[e + 1] * step
        o2, o3 = nodes[e + 2] * step, nodes[e + 3] * step
        if length > 0:
            for f in range(e + 4, e + 8):
                fetch(base, nodes[f] * step, length, zero)
        for g in range(kv_heads):
            for h in range(g * repeat, (g + 1) * repeat):
                mine = shift(own, h * own_head + g * own_group)
                at = h * row_head + g * row_group
                a = b = c = d = zero
                for i in range(0, whole, lanes):
                    x = load(mine, i, zero)
                    a = a + x * load(base, o0 + at + i, zero)
                    b = b + x * load(base, o1 + at + i, zero)
                    c = c + x * load(base, o2 + at + i, zero)
                    d = d + x * load(base, o3 + at + i, zero)
                if whole < width:
                    rest = width - whole
                    x = load_first(mine, whole, rest, zero)
                    a = a + x * load_first(base, o0 + at + whole, rest, zero)
                    b = b + x * load_first(base, o1 + at + whole, rest, zero)
                    c = c + x * load_first(base, o2 + at + whole, rest, zero)
                    d = d + x * load_first(base, o3 + at + whole, rest, zero)
                store_totals(result, h * stride + e, a, b, c, d)


@inlined
def add_rows(
    acc, acc_head, acc_group, x, stride, base, nodes, step, row_head, row_group,
    n, repeat, kv_heads, width, zero,
):  # fmt: skip
    """acc += sum_e x[h, e] * neighbour's row, for all heads, four edges at a time."""
    lanes = lanes_of(zero)
    whole = width - width % lanes
    for e in range(0, n, 4):
        o0, o1 = nodes[e] * step, nodes[e + 1] * step
        o2, o3 = nodes[e + 2] * step, nodes[e + 3] * step
        for g in range(kv_heads):
            for h in range(g * repeat, (g + 1) * repeat):
                mine = shift(acc, h * acc_head + g * acc_group)
                at = h * row_head + g * row_group
                a = splat(x[h * stride + e], zero)
                b = splat(x[h * stride + e + 1], zero)
                c = splat(x[h * stride + e + 2], zero)
                d = splat(x[h * stride + e + 3], zero)
                for i in range(0, whole, lanes):
                    low = load(mine, i, zero) + a * load(base, o0 + at + i, zero)
                    high = c * load(base, o2 + at + i, zero)
                    low = low + b * load(base, o1 + at + i, zero)
                    high = high + d * load(base, o3 + at + i, zero)
                    store(mine, i, low + high)
                if whole < width:
                    rest = width - whole
                    y = load_first(mine, whole, rest, zero)
                    y = y + a * load_first(base, o0 + at + whole, rest, zero)
                    y = y + b * load_first(base, o1 + at + whole, rest, zero)
                    y = y + c * load_first(base, o2 + at + whole, rest, zero)
                    y = y + d * load_first(base, o3 + at + whole, rest, zero)
                    store_first(mine, whole, rest, y)


@inlined
def scores_gatv2(
    result, stride, own, own_head, own_group, base, nodes, step, row_head, row_group,
    n, repeat, kv_heads, width, vector, slope, edges, edge, ids, zero,
):  # fmt: skip
    """result[h, e] = vector_h . leaky_relu(own row + neighbour's row + edge's row, if `edges`)."""
    lanes = lanes_of(zero)
    whole = width - width % lanes
    slopes = splat(slope, zero)
    for e in range(n):
        base_e = shift(base, nodes[e] * step)
        for g in range(kv_heads):
            for h in range(g * repeat, (g + 1) * repeat):
                mine = shift(own, h * own_head + g * own_group)
                theirs = shift(base_e, h * row_head + g * row_group)
                more = shift(edge, (ids[e] * repeat * kv_heads + h) * width)
                a = zero
                for i in range(0, whole, lanes):
                    x = load(mine, i, zero) + load(theirs, i, zero)
                    if edges:
                        x = x + load(more, i, zero)
                    a = a + leaky(x, slopes) * load(vector, h * width + i, zero)
                if whole < width:
                    rest = width - whole
                    x = load_first(mine, whole, rest, zero) + load_first(theirs, whole, rest, zero)
                    if edges:
                        x = x + load_first(more, whole, rest, zero)
                    a = a + leaky(x, slopes) * load_first(vector, h * width + whole, rest, zero)
                result[h * stride + e] = total(a)


@inlined
def add_gatv2(
    acc, acc_head, acc_group, dvector, c, stride, own, own_head, own_group,
    base, nodes, step, row_head, row_group, n, repeat, kv_heads, width, vector, slope,
    edges, edge, dedge, ids, zero,
):  # fmt: skip
    """acc += sum_e c[h, e] * vector_h * leaky_relu'(own + neighbour's + edge's row).

    The edge's row is there if `edges`. dvector and dedge are addresses: where they are not 0, the
    vector's gradient is added to the one, and each edge's written to the other.
    """
    lanes = lanes_of(zero)
    slopes = splat(slope, zero)
    for e in range(n):
        base_e = shift(base, nodes[e] * step)
        for g in range(kv_heads):
            for h in range(g * repeat, (g + 1) * repeat):
                mine = shift(own, h * own_head + g * own_group)
                theirs = shift(base_e, h * row_head + g * row_group)
                more = shift(edge, (ids[e] * repeat * kv_heads + h) * width)
                into = shift(acc, h * acc_head + g * acc_group)
                weight = splat(c[h * stride + e], zero)
                for i in range(0, width, lanes):
                    rest = min(width - i, lanes)
                    x = load_first(mine, i, rest, zero) + load_first(theirs, i, rest, zero)
                    if edges:
                        x = x + load_first(more, i, rest, zero)
                    w = load_first(vector, h * width + i, rest, zero)
                    d = weight * w * leaky_slope(x, slopes)
                    store_first(into, i, rest, load_first(into, i, rest, zero) + d)
                    if dedge != 0:
                        at = (ids[e] * repeat * kv_heads + h) * width + i
                        store_first(pointer(dedge, acc), at, rest, d)
                    if dvector != 0:
                        at = pointer(dvector, acc)
                        y = load_first(at, h * width + i, rest, zero)
                        store_first(at, h * width + i, rest, y + weight * leaky(x, slopes))


@inlined
def dots_edges(result, stride, own, nodes, edge, ids, n, heads, width, factor, zero):
    """result[h, e] += factor * own[node_e, h] . edge[id_e]."""
    for e in range(n):
        for h in range(heads):
            mine = shift(own, (nodes[e] * heads + h) * width)
            theirs = shift(edge, ids[e] * width)
            a = zero
            for i in range(0, width, lanes_of(zero)):
                rest = min(width - i, lanes_of(zero))
                a = a + load_first(mine, i, rest, zero) * load_first(theirs, i, rest, zero)
            result[h * stride + e] += total(a) * factor


@inlined
def write_dedge(dedge, ids, c, u, p, dz, stride, n, heads, width, zero):
    """dedge[id_e] = sum_h c[h, e] u_h + p[h, e] dz_h."""
    for e in range(n):
        into = shift(dedge, ids[e] * width)
        for i in range(0, width, lanes_of(zero)):
            rest = min(width - i, lanes_of(zero))
            a = zero
            for h in range(heads):
                at = h * width + i
                a = a + splat(c[h * stride + e], zero) * load_first(u, at, rest, zero)
                a = a + splat(p[h * stride + e], zero) * load_first(dz, at, rest, zero)
            store_first(into, i, rest, a)
