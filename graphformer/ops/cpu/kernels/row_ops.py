"""Steps that read and write feature rows of nodes and edges, inlined into the kernels.

`Rows` and `Tile` are described in `argument_table`; "[H, n]" are the numbers of a tile,
x[h * stride + e]. `index` is `tile.nodes` for rows of neighbours, `tile.ids` for rows of edges.
Four edges are processed at a time, so that four independent sums are in flight; the lists are
padded for that.
"""

# mypy: disable-error-code="misc,no-untyped-call,no-untyped-def"
from __future__ import annotations

from graphformer.ops.cpu.kernels.argument_table import AHEAD
from graphformer.ops.cpu.kernels.simd import (
    inlined,
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
from graphformer.ops.cpu.kernels.vector_math import (
    leaky_relu,
    leaky_relu_slope,
    store_lane_sums,
    sum_lanes,
)


@inlined
def whole_lines(count):
    """`count` rounded up to a multiple of 16, so that arrays in scratch begin on cache lines."""
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
def scale_row(target, source, count, factor, zero):
    """target[:count] = factor * source[:count]; a copy for factor 1."""
    lanes = lanes_of(zero)
    whole = count - count % lanes
    factors = splat(factor, zero)
    for i in range(0, whole, lanes):
        store(target, i, load(source, i, zero) * factors)
    if whole < count:
        rest = count - whole
        store_first(target, whole, rest, load_first(source, whole, rest, zero) * factors)


@inlined
def prefetch_row(base, offset, length):
    """Prefetch the cache lines of `base[offset : offset + length]`."""
    for line in range(0, length, 16):
        prefetch(base, offset + line)


# Dot products -----------------------------------------------------------------------------------


@inlined
def dot_products(result, own, rows, index, tile, heads, width, ahead, zero):
    """result[h, e] = own_h . row_{index[e], h}, [H, n].

    With `ahead`, the length of a whole row of all heads, the next four edges' rows are prefetched.
    """
    lanes = lanes_of(zero)
    whole = width - width % lanes
    if ahead > 0:
        for e in range(AHEAD, AHEAD + 4):
            prefetch_row(rows.base, index[e] * rows.step, ahead)
    for e in range(0, tile.size, 4):
        o0, o1 = index[e] * rows.step, index[e + 1] * rows.step
        o2, o3 = index[e + 2] * rows.step, index[e + 3] * rows.step
        if ahead > 0:
            for f in range(e + 4, e + 8):
                prefetch_row(rows.base, index[f] * rows.step, ahead)
        for g in range(heads.keys):
            for h in range(g * heads.repeat, (g + 1) * heads.repeat):
                q = shift(own.base, h * own.head_step + g * own.group_step)
                at = h * rows.head_step + g * rows.group_step
                a = b = c = d = zero
                for i in range(0, whole, lanes):
                    x = load(q, i, zero)
                    a = a + x * load(rows.base, o0 + at + i, zero)
                    b = b + x * load(rows.base, o1 + at + i, zero)
                    c = c + x * load(rows.base, o2 + at + i, zero)
                    d = d + x * load(rows.base, o3 + at + i, zero)
                if whole < width:
                    rest = width - whole
                    x = load_first(q, whole, rest, zero)
                    a = a + x * load_first(rows.base, o0 + at + whole, rest, zero)
                    b = b + x * load_first(rows.base, o1 + at + whole, rest, zero)
                    c = c + x * load_first(rows.base, o2 + at + whole, rest, zero)
                    d = d + x * load_first(rows.base, o3 + at + whole, rest, zero)
                store_lane_sums(result, h * tile.stride + e, a, b, c, d)


@inlined
def add_edge_dot_products(result, own, features, tile, heads, width, factor, zero):
    """result[h, e] += factor * own_{node_e, h} . feature_e, [H, n]; own is [nodes, H, F]."""
    for e in range(tile.size):
        for h in range(heads.queries):
            u = shift(own, (tile.nodes[e] * heads.queries + h) * width)
            feature = shift(features, tile.ids[e] * width)
            a = zero
            for i in range(0, width, lanes_of(zero)):
                rest = min(width - i, lanes_of(zero))
                a = a + load_first(u, i, rest, zero) * load_first(feature, i, rest, zero)
            result[h * tile.stride + e] += sum_lanes(a) * factor


# Weighted sums ----------------------------------------------------------------------------------


@inlined
def add_weighted_rows(sums, x, rows, index, tile, heads, width, zero):
    """sums_h += sum_e x[h, e] row_{index[e], h}, [H, width] or, summed over groups, [Hkv, width].

    Edges 0 and 1 and edges 2 and 3 are added in pairs: two chains of additions instead of one.
    """
    lanes = lanes_of(zero)
    whole = width - width % lanes
    for e in range(0, tile.size, 4):
        o0, o1 = index[e] * rows.step, index[e + 1] * rows.step
        o2, o3 = index[e + 2] * rows.step, index[e + 3] * rows.step
        for g in range(heads.keys):
            for h in range(g * heads.repeat, (g + 1) * heads.repeat):
                acc = shift(sums.base, h * sums.head_step + g * sums.group_step)
                at = h * rows.head_step + g * rows.group_step
                a = splat(x[h * tile.stride + e], zero)
                b = splat(x[h * tile.stride + e + 1], zero)
                c = splat(x[h * tile.stride + e + 2], zero)
                d = splat(x[h * tile.stride + e + 3], zero)
                for i in range(0, whole, lanes):
                    low = load(acc, i, zero) + a * load(rows.base, o0 + at + i, zero)
                    high = c * load(rows.base, o2 + at + i, zero)
                    low = low + b * load(rows.base, o1 + at + i, zero)
                    high = high + d * load(rows.base, o3 + at + i, zero)
                    store(acc, i, low + high)
                if whole < width:
                    rest = width - whole
                    y = load_first(acc, whole, rest, zero)
                    y = y + a * load_first(rows.base, o0 + at + whole, rest, zero)
                    y = y + b * load_first(rows.base, o1 + at + whole, rest, zero)
                    y = y + c * load_first(rows.base, o2 + at + whole, rest, zero)
                    y = y + d * load_first(rows.base, o3 + at + whole, rest, zero)
                    store_first(acc, whole, rest, y)


@inlined
def write_feature_gradient(dedge, ds, u, p, dz, tile, heads, width, zero):
    """de_ij = sum_h ds_ijh u_ih + p_ijh dz_ih, [n, F], to row id_e of dedge; u is scaled."""
    for e in range(tile.size):
        row = shift(dedge, tile.ids[e] * width)
        for i in range(0, width, lanes_of(zero)):
            rest = min(width - i, lanes_of(zero))
            a = zero
            for h in range(heads.queries):
                at = h * width + i
                a = a + splat(ds[h * tile.stride + e], zero) * load_first(u, at, rest, zero)
                a = a + splat(p[h * tile.stride + e], zero) * load_first(dz, at, rest, zero)
            store_first(row, i, rest, a)


# GATv2 ------------------------------------------------------------------------------------------


@inlined
def gatv2_scores(result, own, rows, gatv2, tile, heads, width, zero):
    """result[h, e] = a_h . leaky_relu(own_h + row_{node_e, h} + key_e,h), [H, n].

    The last term, the edge's key, is there if `gatv2.edges`.
    """
    lanes = lanes_of(zero)
    whole = width - width % lanes
    slopes = splat(gatv2.slope, zero)
    for e in range(tile.size):
        base = shift(rows.base, tile.nodes[e] * rows.step)
        for g in range(heads.keys):
            for h in range(g * heads.repeat, (g + 1) * heads.repeat):
                q = shift(own.base, h * own.head_step + g * own.group_step)
                k = shift(base, h * rows.head_step + g * rows.group_step)
                key = shift(gatv2.edge, (tile.ids[e] * heads.repeat * heads.keys + h) * width)
                a = zero
                for i in range(0, whole, lanes):
                    x = load(q, i, zero) + load(k, i, zero)
                    if gatv2.edges:
                        x = x + load(key, i, zero)
                    a = a + leaky_relu(x, slopes) * load(gatv2.vector, h * width + i, zero)
                if whole < width:
                    rest = width - whole
                    x = load_first(q, whole, rest, zero) + load_first(k, whole, rest, zero)
                    if gatv2.edges:
                        x = x + load_first(key, whole, rest, zero)
                    w = load_first(gatv2.vector, h * width + whole, rest, zero)
                    a = a + leaky_relu(x, slopes) * w
                result[h * tile.stride + e] = sum_lanes(a)


@inlined
def add_gatv2_gradients(sums, dvector, dedge, ds, own, rows, gatv2, tile, heads, width, zero):
    """sums_h += sum_e g_ijh with g_ijh = ds_ijh a_h leaky_relu'(own_h + row_h + key_h).

    dvector and dedge are addresses or 0: g_ijh, the gradient of the edge's key, is written to
    dedge [E, H, D], and ds_ijh leaky_relu(...), the gradient of a_h, is added to dvector [H, D].
    """
    lanes = lanes_of(zero)
    slopes = splat(gatv2.slope, zero)
    for e in range(tile.size):
        base = shift(rows.base, tile.nodes[e] * rows.step)
        for g in range(heads.keys):
            for h in range(g * heads.repeat, (g + 1) * heads.repeat):
                q = shift(own.base, h * own.head_step + g * own.group_step)
                k = shift(base, h * rows.head_step + g * rows.group_step)
                edge_row = (tile.ids[e] * heads.repeat * heads.keys + h) * width
                key = shift(gatv2.edge, edge_row)
                acc = shift(sums.base, h * sums.head_step + g * sums.group_step)
                weight = splat(ds[h * tile.stride + e], zero)
                for i in range(0, width, lanes):
                    rest = min(width - i, lanes)
                    x = load_first(q, i, rest, zero) + load_first(k, i, rest, zero)
                    if gatv2.edges:
                        x = x + load_first(key, i, rest, zero)
                    w = load_first(gatv2.vector, h * width + i, rest, zero)
                    d = weight * w * leaky_relu_slope(x, slopes)
                    store_first(acc, i, rest, load_first(acc, i, rest, zero) + d)
                    if dedge != 0:
                        store_first(pointer(dedge, sums.base), edge_row + i, rest, d)
                    if dvector != 0:
                        da = pointer(dvector, sums.base)
                        y = load_first(da, h * width + i, rest, zero)
                        y = y + weight * leaky_relu(x, slopes)
                        store_first(da, h * width + i, rest, y)
