"""Attention within small samples where every target has every source, by sample and head.

Keys are transposed first, so that the logits of a target are sums of whole vectors of sources; the
other kernels sum the lanes of a vector for each edge. The backward pass computes all gradients in
one pass over the targets; formulas in `by_target`.
"""

# mypy: disable-error-code="misc,no-untyped-call,no-untyped-def"
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from graphformer.ops.cpu.kernels import argument_table as at
from graphformer.ops.cpu.kernels.argument_table import at_row
from graphformer.ops.cpu.kernels.row_ops import fill, scale_row, whole_lines
from graphformer.ops.cpu.kernels.simd import (
    as_float,
    inlined,
    lanes_of,
    load,
    pointer,
    shift,
    splat,
    store,
    zeros,
)
from graphformer.ops.cpu.kernels.vector_math import (
    exponential,
    max_lane,
    maximum,
    sum_lanes,
)


def make_complete_forward(
    lanes: int, width: int, value_width: int, source_lanes: int
) -> Callable[..., Any]:
    """out_i = sum_j p_ij v_j and the log-sum-exp of a sample and a head of keys, its work item.

    Args:
        lanes: of vectors over features; divides both widths.
        width, value_width: D and Dv, multiples of 8.
        source_lanes: of vectors over sources; divides 16.
    """

    def complete_forward(item, table, scratch):
        zero, none = zeros(scratch, lanes), zeros(scratch, source_lanes)
        scale, heads, repeat = as_float(table[at.SCALE]), table[at.HEADS], table[at.REPEAT]
        group = item // table[at.NUM_SLOTS]
        targets, sources = _samples(table, item)
        begin, count = sources[0], sources[1] - sources[0]
        k = _head(table, at.K, at.K_STRIDE, begin, group * width, scratch)
        v = _head(table, at.V, at.V_STRIDE, begin, group * value_width, scratch)
        stride = whole_lines(count)
        mask = scratch
        s, query, keys = shift(mask, stride), shift(mask, 2 * stride), shift(mask, 2 * stride + 128)
        _mask(mask, count, stride)
        _transpose(keys, k, table[at.K_STRIDE], width, count, stride)
        for h in range(group * repeat, (group + 1) * repeat):
            for row in range(targets[0], targets[1]):
                out = at_row(table, at.OUT, row, heads * value_width, scratch)
                out = shift(out, h * value_width)
                lse = shift(at_row(table, at.LSE, row, heads, scratch), h)
                # s_ij = (scale q_i) . k_j
                q = _head(table, at.Q, at.Q_STRIDE, row, h * width, scratch)
                scale_row(query, q, width, scale, zero)
                _products(s, query, keys, width, stride, none)
                # p_ij = exp(s_ij - m_i), with m_i the largest logit
                top = load(s, 0, none) + load(mask, 0, none) if count > 0 else none
                for j in range(0, stride, source_lanes):
                    x = load(s, j, none) + load(mask, j, none)
                    store(s, j, x)
                    top = maximum(top, x)
                best = max_lane(top)
                # While all logits are -inf, exp(-inf - 0) = 0 instead of exp(-inf + inf) = NaN.
                base = best if best > -math.inf else 0.0
                shared, partial = splat(base, none), none
                for j in range(0, stride, source_lanes):
                    p = exponential(load(s, j, none) - shared)
                    store(s, j, p)
                    partial = partial + p
                # out_i = sum_j p_ij v_j / sum_j p_ij, lse_i = m_i + log sum_j p_ij
                total = sum_lanes(partial)
                inverse = 1.0 / total if total != 0.0 else 0.0
                lse[0] = base + math.log(total) if total != 0.0 else math.inf
                _weighted_sum(out, s, v, table[at.V_STRIDE], value_width, count, inverse, zero)

    return complete_forward


def make_complete_backward(
    lanes: int, width: int, value_width: int, source_lanes: int
) -> Callable[..., Any]:
    """dq, dk and dv of a sample and a head of keys; arguments as in `make_complete_forward`."""

    def complete_backward(item, table, scratch):
        zero, none = zeros(scratch, lanes), zeros(scratch, source_lanes)
        scale, heads, repeat = as_float(table[at.SCALE]), table[at.HEADS], table[at.REPEAT]
        kv_heads = table[at.KV_HEADS]
        group = item // table[at.NUM_SLOTS]
        targets, sources = _samples(table, item)
        begin, count = sources[0], sources[1] - sources[0]
        k = _head(table, at.K, at.K_STRIDE, begin, group * width, scratch)
        v = _head(table, at.V, at.V_STRIDE, begin, group * value_width, scratch)
        stride = whole_lines(count)
        mask = scratch
        p, ds = shift(mask, stride), shift(mask, 2 * stride)
        query, dkey = shift(mask, 3 * stride), shift(mask, 3 * stride + 128)
        dvalue = shift(dkey, stride * width)
        keys = shift(dvalue, stride * value_width)
        values = shift(keys, stride * width)
        _mask(mask, count, stride)
        _transpose(keys, k, table[at.K_STRIDE], width, count, stride)
        _transpose(values, v, table[at.V_STRIDE], value_width, count, stride)
        fill(dkey, count * width, 0.0, zero)
        fill(dvalue, count * value_width, 0.0, zero)
        for h in range(group * repeat, (group + 1) * repeat):
            for row in range(targets[0], targets[1]):
                dq = shift(at_row(table, at.DQ, row, heads * width, scratch), h * width)
                lse = at_row(table, at.LSE, row, heads, scratch)[h]
                dout = _head(table, at.DOUT, at.DOUT_STRIDE, row, h * value_width, scratch)
                # s_ij = (scale q_i) . k_j and dp_ij = dout_i . v_j
                q = _head(table, at.Q, at.Q_STRIDE, row, h * width, scratch)
                scale_row(query, q, width, scale, zero)
                _products(p, query, keys, width, stride, none)
                _products(ds, dout, values, value_width, stride, none)
                # p_ij = exp(s_ij - lse_i), delta_i = sum_j p_ij dp_ij
                shared, partial = splat(lse, none), none
                for j in range(0, stride, source_lanes):
                    x = exponential(load(p, j, none) + load(mask, j, none) - shared)
                    store(p, j, x)
                    partial = partial + x * load(ds, j, none)
                # ds_ij = p_ij (dp_ij - delta_i)
                delta = splat(sum_lanes(partial), none)
                for j in range(0, stride, source_lanes):
                    store(ds, j, load(p, j, none) * (load(ds, j, none) - delta))
                # dq_i = scale sum_j ds_ij k_j, dk_j += ds_ij (scale q_i), dv_j += p_ij dout_i
                _weighted_sum(dq, ds, k, table[at.K_STRIDE], width, count, scale, zero)
                _add_outer(dkey, ds, query, width, count, zero)
                _add_outer(dvalue, p, dout, value_width, count, zero)
        for j in range(count):
            dk = at_row(table, at.DK, begin + j, kv_heads * width, scratch)
            dv = at_row(table, at.DV, begin + j, kv_heads * value_width, scratch)
            scale_row(shift(dk, group * width), shift(dkey, j * width), width, 1.0, zero)
            own = shift(dvalue, j * value_width)
            scale_row(shift(dv, group * value_width), own, value_width, 1.0, zero)

    return complete_backward


@inlined
def _samples(table, item):
    """The borders of the targets and of the sources of a work item's sample, two pointers.

    Items are in the order of heads, then samples: threads that work on two heads of one sample
    would write to the same cache lines.
    """
    sample = item % table[at.NUM_SLOTS]
    targets, sources = pointer(table[at.INDPTR], table), pointer(table[at.NEIGHBOURS], table)
    return shift(targets, sample), shift(sources, sample)


@inlined
def _head(table, field, stride, row, offset, like):
    """The features of a node in one head."""
    return shift(pointer(table[field], like), row * table[stride] + offset)


@inlined
def _mask(mask, count, stride):
    """0 for the sources, minus infinity for the padding, [stride]."""
    for j in range(stride):
        mask[j] = 0.0 if j < count else -math.inf


@inlined
def _transpose(target, rows, step, width, count, stride):
    """target[d, j] = rows[j, d], [width, stride], with padding of 0."""
    for d in range(width):
        for j in range(count):
            target[d * stride + j] = rows[j * step + d]
        for j in range(count, stride):
            target[d * stride + j] = 0.0


@inlined
def _products(result, own, columns, width, stride, none):
    """result[j] = own . columns[:, j], [stride], in four sums."""
    for j in range(0, stride, lanes_of(none)):
        a = b = c = d = none
        for i in range(0, width, 4):
            a = a + splat(own[i], none) * load(columns, i * stride + j, none)
            b = b + splat(own[i + 1], none) * load(columns, (i + 1) * stride + j, none)
            c = c + splat(own[i + 2], none) * load(columns, (i + 2) * stride + j, none)
            d = d + splat(own[i + 3], none) * load(columns, (i + 3) * stride + j, none)
        store(result, j, (a + b) + (c + d))


@inlined
def _weighted_sum(result, weights, rows, step, width, count, factor, zero):
    """result = factor * sum_j weights[j] rows[j], [width], in four sums."""
    factors = splat(factor, zero)
    whole = count - count % 4
    for i in range(0, width, lanes_of(zero)):
        a = b = c = d = zero
        for j in range(0, whole, 4):
            a = a + splat(weights[j], zero) * load(rows, j * step + i, zero)
            b = b + splat(weights[j + 1], zero) * load(rows, (j + 1) * step + i, zero)
            c = c + splat(weights[j + 2], zero) * load(rows, (j + 2) * step + i, zero)
            d = d + splat(weights[j + 3], zero) * load(rows, (j + 3) * step + i, zero)
        for j in range(whole, count):
            a = a + splat(weights[j], zero) * load(rows, j * step + i, zero)
        store(result, i, factors * ((a + b) + (c + d)))


@inlined
def _add_outer(sums, weights, own, width, count, zero):
    """sums[j] += weights[j] own, [count, width]."""
    for i in range(0, width, lanes_of(zero)):
        x = load(own, i, zero)
        for j in range(count):
            at_j = j * width + i
            store(sums, at_j, load(sums, at_j, zero) + splat(weights[j], zero) * x)
