"""Pieces of kernels that work on the numbers of a block of edges; inlined into them.

A block is up to `stride` edges of one row. Its numbers lie head by head: `x[h * stride + e]`, with
room for a multiple of 16 edges.
"""

# mypy: disable-error-code="misc,no-untyped-call,no-untyped-def"
from __future__ import annotations

import math

from graphformer.ops.cpu.feature_rows import inlined, scaled
from graphformer.ops.cpu.simd import lanes_of, load, shift, splat, store
from graphformer.ops.cpu.vector_math import exponential, larger, leaky, leaky_slope, peak, total


@inlined
def scores_additive(result, stride, own, scores, nodes, n, heads):
    """result[h, e] = own score + neighbour's score."""
    for e in range(n):
        for h in range(heads):
            result[h * stride + e] = own[h] + scores[nodes[e] * heads + h]


@inlined
def rectify(x, stride, n, heads, slope, zero):
    """x = leaky_relu(x)."""
    slopes = splat(slope, zero)
    for h in range(heads):
        for e in range(0, n, lanes_of(zero)):
            at = h * stride + e
            store(x, at, leaky(load(x, at, zero), slopes))


@inlined
def multiply(x, stride, n, heads, y, zero):
    """x = x * y."""
    for h in range(heads):
        for e in range(0, n, lanes_of(zero)):
            at = h * stride + e
            store(x, at, load(x, at, zero) * load(y, at, zero))


@inlined
def blank(x, stride, n, heads, value):
    """The padding of a block = value."""
    for h in range(heads):
        for e in range(n, (n + 15) // 16 * 16):
            x[h * stride + e] = value


@inlined
def weights_of(s, stride, n, heads, lse, zero):
    """s = exp(s - lse) for a block of one target."""
    blank(s, stride, n, heads, -math.inf)
    for h in range(heads):
        less = splat(lse[h], zero)
        for e in range(0, n, lanes_of(zero)):
            at = h * stride + e
            store(s, at, exponential(load(s, at, zero) - less))


@inlined
def plus(x, y, stride, n, heads, zero):
    """x += y."""
    for h in range(heads):
        for e in range(0, n, lanes_of(zero)):
            at = h * stride + e
            store(x, at, load(x, at, zero) + load(y, at, zero))


@inlined
def sum_products(result, x, y, stride, n, heads, zero):
    """result[h] = sum_e x * y."""
    for h in range(heads):
        a = zero
        for e in range(0, n, lanes_of(zero)):
            at = h * stride + e
            a = a + load(x, at, zero) * load(y, at, zero)
        result[h] = total(a)


@inlined
def softmax_backward(dp, p, delta, stride, n, heads, zero):
    """dp = p * (dp - delta), the gradient of the logits, for a block of one target."""
    for h in range(heads):
        less = splat(delta[h], zero)
        for e in range(0, n, lanes_of(zero)):
            at = h * stride + e
            store(dp, at, load(p, at, zero) * (load(dp, at, zero) - less))


@inlined
def softmax_backward_from(dp, p, delta, nodes, stride, n, heads):
    """dp = p * (dp - delta), each edge with its own target."""
    for e in range(n):
        for h in range(heads):
            at = h * stride + e
            dp[at] = p[at] * (dp[at] - delta[nodes[e] * heads + h])


@inlined
def weights_from(s, stride, n, heads, lse, nodes, zero):
    """s = exp(s - lse), each edge with its own target."""
    for e in range(n):
        for h in range(heads):
            s[h * stride + e] -= lse[nodes[e] * heads + h]
    blank(s, stride, n, heads, -math.inf)
    for h in range(heads):
        for e in range(0, n, lanes_of(zero)):
            at = h * stride + e
            store(s, at, exponential(load(s, at, zero)))


@inlined
def unrectify(c, x, stride, n, heads, slope, zero):
    """c = c * leaky_relu'(x)."""
    slopes = splat(slope, zero)
    for h in range(heads):
        for e in range(0, n, lanes_of(zero)):
            at = h * stride + e
            store(c, at, load(c, at, zero) * leaky_slope(load(x, at, zero), slopes))


@inlined
def sum_edges(result, c, stride, n, heads):
    """result[h] += sum_e c[h, e]."""
    for h in range(heads):
        a = result[h]
        for e in range(n):
            a += c[h * stride + e]
        result[h] = a


@inlined
def online_softmax(s, stride, n, heads, largest, summed, acc, width, extra, edge_width, zero):
    """s = exp(s - largest so far); the sums so far are scaled to the new largest."""
    lanes = lanes_of(zero)
    blank(s, stride, n, heads, -math.inf)
    for h in range(heads):
        row = shift(s, h * stride)
        top = load(row, 0, zero)
        for e in range(lanes, n, lanes):
            top = larger(top, load(row, e, zero))
        best, old = peak(top), largest[h]
        if best > old:
            largest[h] = best
            if summed[h] != 0.0:
                factor = math.exp(old - best)
                summed[h] *= factor
                ours, edges = shift(acc, h * width), shift(extra, h * edge_width)
                scaled(ours, ours, width, factor, zero)
                if edge_width > 0:
                    scaled(edges, edges, edge_width, factor, zero)
        best = largest[h]
        top = splat(best if best > -math.inf else 0.0, zero)
        partial = zero
        for e in range(0, n, lanes):
            p = exponential(load(row, e, zero) - top)
            store(row, e, p)
            partial = partial + p
        summed[h] += total(partial)


@inlined
def finish(out, z, lse, acc, extra, largest, summed, heads, value_width, edge_width, zero):
    """Divide by the sums; a row without edges in effect gets zeros, and weights of zero."""
    for h in range(heads):
        inverse = 1.0 / summed[h] if summed[h] != 0.0 else 0.0
        lse[h] = largest[h] + math.log(summed[h]) if summed[h] != 0.0 else math.inf
        at = h * value_width
        scaled(shift(out, at), shift(acc, at), value_width, inverse, zero)
        if edge_width > 0:
            at = h * edge_width
            scaled(shift(z, at), shift(extra, at), edge_width, inverse, zero)
