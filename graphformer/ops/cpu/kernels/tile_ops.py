"""Elementwise steps and sums on the numbers of a tile of edges, inlined into the kernels.

The numbers of a tile, "[H, n]" below, are stored head by head, x[h * stride + e], with room for a
multiple of 16 edges. Loops over vectors therefore run past the last edge; `pad` sets what they
read there.
"""

# mypy: disable-error-code="misc,no-untyped-call,no-untyped-def"
from __future__ import annotations

import math

from graphformer.ops.cpu.kernels.row_ops import scale_row
from graphformer.ops.cpu.kernels.simd import inlined, lanes_of, load, shift, splat, store
from graphformer.ops.cpu.kernels.vector_math import (
    exponential,
    leaky_relu,
    leaky_relu_slope,
    max_lane,
    maximum,
    sum_lanes,
)


@inlined
def pad(x, tile, heads, value):
    """x[:, n:] = value, up to the next multiple of 16 edges."""
    for h in range(heads):
        for e in range(tile.size, (tile.size + 15) // 16 * 16):
            x[h * tile.stride + e] = value


@inlined
def add(x, y, tile, heads, zero):
    """x += y, [H, n]."""
    for h in range(heads):
        for e in range(0, tile.size, lanes_of(zero)):
            i = h * tile.stride + e
            store(x, i, load(x, i, zero) + load(y, i, zero))


@inlined
def multiply(x, y, tile, heads, zero):
    """x *= y, [H, n]."""
    for h in range(heads):
        for e in range(0, tile.size, lanes_of(zero)):
            i = h * tile.stride + e
            store(x, i, load(x, i, zero) * load(y, i, zero))


@inlined
def sum_of_products(result, x, y, tile, heads, zero):
    """result[h] = sum_e x[h, e] y[h, e]; the padding of x or y must be 0."""
    for h in range(heads):
        partial = zero
        for e in range(0, tile.size, lanes_of(zero)):
            i = h * tile.stride + e
            partial = partial + load(x, i, zero) * load(y, i, zero)
        result[h] = sum_lanes(partial)


@inlined
def add_sums(result, x, tile, heads):
    """result[h] += sum_e x[h, e], one edge after the other."""
    for h in range(heads):
        total = result[h]
        for e in range(tile.size):
            total += x[h * tile.stride + e]
        result[h] = total


# LeakyReLU --------------------------------------------------------------------------------------


@inlined
def additive_scores(result, own_score, scores, tile, heads):
    """result[h, e] = own_score[h] + scores[node_e, h]."""
    for e in range(tile.size):
        for h in range(heads):
            result[h * tile.stride + e] = own_score[h] + scores[tile.nodes[e] * heads + h]


@inlined
def apply_leaky_relu(x, slope, tile, heads, zero):
    """x = leaky_relu(x), [H, n]."""
    slopes = splat(slope, zero)
    for h in range(heads):
        for e in range(0, tile.size, lanes_of(zero)):
            i = h * tile.stride + e
            store(x, i, leaky_relu(load(x, i, zero), slopes))


@inlined
def leaky_relu_backward(ds, raw, slope, tile, heads, zero):
    """ds *= leaky_relu'(raw), [H, n]: the gradient of what was inside the LeakyReLU."""
    slopes = splat(slope, zero)
    for h in range(heads):
        for e in range(0, tile.size, lanes_of(zero)):
            i = h * tile.stride + e
            store(ds, i, load(ds, i, zero) * leaky_relu_slope(load(raw, i, zero), slopes))


# Softmax ----------------------------------------------------------------------------------------


@inlined
def online_softmax(s, tile, sums, heads, value_width, edge_width, zero):
    """s = exp(s - m_h), with m_h the largest logit of the row so far; the sums are updated.

    A new maximum m' multiplies the sums by exp(m - m'). Milakov and Gimelshein, 2018,
    arXiv:1805.02867, algorithm 3.
    """
    lanes = lanes_of(zero)
    pad(s, tile, heads, -math.inf)
    for h in range(heads):
        row = shift(s, h * tile.stride)
        # m' = the maximum of the tile, lane by lane and then of the lanes
        top = load(row, 0, zero)
        for e in range(lanes, tile.size, lanes):
            top = maximum(top, load(row, e, zero))
        best, old = max_lane(top), sums.largest[h]
        if best > old:
            sums.largest[h] = best
            if sums.total[h] != 0.0:  # a row's first tile has nothing to rescale
                factor = math.exp(old - best)
                sums.total[h] *= factor
                values = shift(sums.values, h * value_width)
                scale_row(values, values, value_width, factor, zero)
                if edge_width > 0:
                    features = shift(sums.features, h * edge_width)
                    scale_row(features, features, edge_width, factor, zero)
        best = sums.largest[h]
        # While all logits are -inf, exp(-inf - 0) = 0 instead of exp(-inf + inf) = NaN.
        top = splat(best if best > -math.inf else 0.0, zero)
        partial = zero
        for e in range(0, tile.size, lanes):
            p = exponential(load(row, e, zero) - top)
            store(row, e, p)
            partial = partial + p
        sums.total[h] += sum_lanes(partial)


@inlined
def finish_row(out, z, lse, sums, heads, value_width, edge_width, zero):
    """out = sum p v / sum p, z = sum p e / sum p, lse = m + log sum p.

    A row without edges, or with logits of -inf only, gets zeros; its lse of +inf makes the weights
    that are recomputed from it zero, too.
    """
    for h in range(heads):
        total = sums.total[h]
        inverse = 1.0 / total if total != 0.0 else 0.0
        lse[h] = sums.largest[h] + math.log(total) if total != 0.0 else math.inf
        i = h * value_width
        scale_row(shift(out, i), shift(sums.values, i), value_width, inverse, zero)
        if edge_width > 0:
            i = h * edge_width
            scale_row(shift(z, i), shift(sums.features, i), edge_width, inverse, zero)


@inlined
def softmax_of_target(s, lse, tile, heads, zero):
    """s = p = exp(s - lse_i), [H, n], for a tile of one target i."""
    pad(s, tile, heads, -math.inf)
    for h in range(heads):
        shared = splat(lse[h], zero)
        for e in range(0, tile.size, lanes_of(zero)):
            i = h * tile.stride + e
            store(s, i, exponential(load(s, i, zero) - shared))


@inlined
def softmax_of_source(s, lse, tile, heads, zero):
    """s = p = exp(s - lse_i), [H, n], for a tile of one source: each edge has another target i."""
    for e in range(tile.size):
        for h in range(heads):
            s[h * tile.stride + e] -= lse[tile.nodes[e] * heads + h]
    pad(s, tile, heads, -math.inf)
    for h in range(heads):
        for e in range(0, tile.size, lanes_of(zero)):
            i = h * tile.stride + e
            store(s, i, exponential(load(s, i, zero)))


@inlined
def logit_gradient_of_target(dp, p, delta, tile, heads, zero):
    """ds_ij = p_ij (dp_ij - delta_i) in place of dp, [H, n], for a tile of one target i.

    Softmax backward with delta_i = sum_j p_ij dp_ij: Dao et al., 2022, arXiv:2205.14135, eq. 4.
    """
    for h in range(heads):
        shared = splat(delta[h], zero)
        for e in range(0, tile.size, lanes_of(zero)):
            i = h * tile.stride + e
            store(dp, i, load(p, i, zero) * (load(dp, i, zero) - shared))


@inlined
def logit_gradient_of_source(dp, p, delta, tile, heads):
    """ds_ij = p_ij (dp_ij - delta_i) in place of dp, [H, n], for a tile of one source j."""
    for e in range(tile.size):
        for h in range(heads):
            i = h * tile.stride + e
            dp[i] = p[i] * (dp[i] - delta[tile.nodes[e] * heads + h])
