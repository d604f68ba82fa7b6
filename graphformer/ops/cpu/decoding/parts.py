"""Parts of a block for one token: norm, rotation, attention to a cache, activation.

All arrays are float32 and given by their addresses; widths are multiples of `LANES`.
"""

# mypy: disable-error-code="misc,no-untyped-call,no-untyped-def"
from __future__ import annotations

import math

from graphformer.ops.cpu.decoding.fields import ACTIVATIONS
from graphformer.ops.cpu.kernels.simd import inlined, load, shift, splat, store, zeros
from graphformer.ops.cpu.kernels.vector_math import (
    exponential,
    max_lane,
    maximum,
    store_lane_sums,
    sum_lanes,
)
from graphformer.ops.cpu.kernels.weights import floats

LANES = 16
BYTES = 4
_RELU, _SILU, _GELU, _GELU_TANH, _QUICK_GELU = range(len(ACTIVATIONS))


@inlined
def normalise(x_address, weight_address, bias_address, centred, eps, out_address, n):
    """out = (x - m) / sqrt(mean((x - m)^2) + eps) * weight + bias; m is mean(x) if centred, else 0.

    Weight and bias may be absent. `out` may be `x`.
    """
    x, out = floats(x_address), floats(out_address)
    weight, bias = floats(weight_address), floats(bias_address)
    zero = zeros(x, LANES)
    mean = zero
    if centred:
        total = zero
        for i in range(0, n, LANES):
            total = total + load(x, i, zero)
        mean = splat(sum_lanes(total) / n, zero)
    squares = zero
    for i in range(0, n, LANES):
        difference = load(x, i, zero) - mean
        squares = squares + difference * difference
    factor = splat(1.0 / math.sqrt(sum_lanes(squares) / n + eps), zero)
    for i in range(0, n, LANES):
        value = (load(x, i, zero) - mean) * factor
        if weight_address:
            value = value * load(weight, i, zero)
        if bias_address:
            value = value + load(bias, i, zero)
        store(out, i, value)


@inlined
def rotate(x_address, cos_address, sin_address, width, heads, head_dim):
    """Rotate pairs (i, i + W / 2) of the first W dimensions of each head of x [heads, D].

    x_i cos_i - x_(i + W/2) sin_i and x_(i + W/2) cos_(i + W/2) + x_i sin_(i + W/2).
    """
    cos, sin = floats(cos_address), floats(sin_address)
    half = width // 2
    for head in range(heads):
        x = floats(x_address + BYTES * head * head_dim)
        for i in range(half):
            first, second = x[i], x[i + half]
            x[i] = first * cos[i] - second * sin[i]
            x[i + half] = second * cos[i + half] + first * sin[i + half]


@inlined
def copy_heads(x_address, cache_address, slot, capacity, heads, head_dim):
    """cache[head, slot] = x[head], of x [heads, D] and the cache [heads, capacity, D]."""
    x, cache = floats(x_address), floats(cache_address)
    zero = zeros(x, LANES)
    for head in range(heads):
        start = (head * capacity + slot) * head_dim
        for i in range(0, head_dim, LANES):
            store(cache, start + i, load(x, head * head_dim + i, zero))


@inlined
def attend(q_address, keys_address, values_address, count, scale, logits_address, out_address, d):
    """out = sum_j p_j v_j with p = softmax_j(scale q . k_j), for one head and `count` slots.

    The logits have room for `count` numbers and one vector more.
    """
    q, keys, values = floats(q_address), floats(keys_address), floats(values_address)
    logits, out = floats(logits_address), floats(out_address)
    zero = zeros(q, LANES)
    whole = count - count % 4
    for j in range(0, whole, 4):  # logits_j = q . k_j, four slots at a time
        k0, k1 = shift(keys, j * d), shift(keys, (j + 1) * d)
        k2, k3 = shift(keys, (j + 2) * d), shift(keys, (j + 3) * d)
        s0 = s1 = s2 = s3 = zero
        for i in range(0, d, LANES):
            part = load(q, i, zero)
            s0, s1 = s0 + part * load(k0, i, zero), s1 + part * load(k1, i, zero)
            s2, s3 = s2 + part * load(k2, i, zero), s3 + part * load(k3, i, zero)
        store_lane_sums(logits, j, s0, s1, s2, s3)
    for j in range(whole, count):
        row, total = shift(keys, j * d), zero
        for i in range(0, d, LANES):
            total = total + load(q, i, zero) * load(row, i, zero)
        logits[j] = sum_lanes(total)
    for j in range(count, count + LANES):  # the rest of the last vector has no weight
        logits[j] = -math.inf
    factor = splat(scale, zero)
    largest = splat(-math.inf, zero)
    for j in range(0, count, LANES):
        part = load(logits, j, zero) * factor
        store(logits, j, part)
        largest = maximum(largest, part)
    top, total = splat(max_lane(largest), zero), zero
    for j in range(0, count, LANES):  # p_j without its denominator
        part = exponential(load(logits, j, zero) - top)
        store(logits, j, part)
        total = total + part
    inverse = splat(1.0 / sum_lanes(total), zero)
    for i in range(0, d, LANES):  # out = sum_j p_j v_j
        a = b = zero
        for j in range(0, count - 1, 2):
            a = a + splat(logits[j], zero) * load(values, j * d + i, zero)
            b = b + splat(logits[j + 1], zero) * load(values, (j + 1) * d + i, zero)
        if count % 2:
            a = a + splat(logits[count - 1], zero) * load(values, (count - 1) * d + i, zero)
        store(out, i, (a + b) * inverse)


@inlined
def activate(x, kind):
    """The activation of number `kind` of ACTIVATIONS, of one number."""
    if kind == _SILU:
        return x / (1.0 + math.exp(-x))
    if kind == _GELU:
        return 0.5 * x * (1.0 + math.erf(x * math.sqrt(0.5)))
    if kind == _GELU_TANH:
        return 0.5 * x * (1.0 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))
    if kind == _QUICK_GELU:
        return x / (1.0 + math.exp(-1.702 * x))
    return max(x, 0.0)
