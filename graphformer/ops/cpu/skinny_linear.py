"""A linear map of few rows on a CPU, as in decoding.

MKL's matrix products of 1 to 16 rows take up to 3 times as long as reading the weights. These
kernels read each weight once for 8 rows and are limited by memory bandwidth only. Weights are
float32 or bfloat16; sums are float32.
"""

# mypy: disable-error-code="misc,no-untyped-call,no-untyped-def"
from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numba
import torch
from numba import njit, prange
from torch import Tensor
from torch.nn import functional as F

from graphformer.ops.cpu import launch
from graphformer.ops.cpu.kernel_cache import compile_cached
from graphformer.ops.cpu.kernels.simd import inlined, load, prefetch, shift, zeros
from graphformer.ops.cpu.kernels.vector_math import sum_lanes
from graphformer.ops.cpu.kernels.weights import floats, halves, load_weights

ROWS, LANES, CHUNK = 8, 16, 16
MAX_ROWS = 2 * ROWS


def is_supported(weight: Tensor) -> bool:
    """Whether the kernels support this weight, [out, in]."""
    supported_type = weight.device.type == "cpu" and weight.dtype in (torch.float32, torch.bfloat16)
    whole_vectors = weight.is_contiguous() and weight.shape[1] % LANES == 0
    return supported_type and whole_vectors and weight.shape[0] >= 2


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`F.linear` without gradients; 1 to 16 rows in float32 run the kernels.

    Args:
        x: [M, in].
        weight: [out, in], one that `is_supported`; bfloat16 weights are converted exactly.
        bias: [out], float32.
    """
    if x.ndim != 2 or not 1 <= len(x) <= MAX_ROWS or x.dtype is not torch.float32:
        return F.linear(x, weight.to(x.dtype), bias)
    if len(x) == 1:
        out = x.new_empty(1, weight.shape[0])
        _run(x.contiguous(), weight, out)
        return out if bias is None else out.add_(bias)
    outs = []
    for rows in x.split(ROWS):
        out = x.new_empty(ROWS, weight.shape[0])
        padded = rows.contiguous()
        if len(rows) < ROWS:
            padded = x.new_zeros(ROWS, x.shape[1])
            padded[: len(rows)] = rows
        _run(padded, weight, out)
        outs.append(out[: len(rows)])
    out = outs[0] if len(outs) == 1 else torch.cat(outs)
    return out if bias is None else out.add_(bias)


def _run(x: Tensor, weight: Tensor, out: Tensor) -> None:
    n, k = weight.shape
    half = int(weight.dtype is torch.bfloat16)
    arguments = x.data_ptr(), weight.data_ptr(), half, out.data_ptr(), n, k
    threads = min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS)
    name = "one_row" if len(x) == 1 else "eight_rows"
    if threads == 1 or launch._forked:
        _kernel(name)(*arguments, 0, n)
        return
    with launch._lock:
        numba.set_num_threads(threads)
        _kernel(f"share_{name}")(*arguments)


# Kernels ----------------------------------------------------------------------------------------
# They call one another by the names of this module: numba does not find functions in its cache that
# hold others in closures.


@inlined
def _one_row(x, weight, out, k, begin, end):
    """out[i] = x . weight[i] for outputs i from `begin` to `end`.

    One output after another, so that the weights are one stream of consecutive addresses, which
    processors prefetch; several rows at a time read at half the speed. Four sums hide the latency
    of the additions.
    """
    zero = zeros(x, LANES)
    whole = k - k % (4 * LANES)
    for i in range(begin, end):
        row = shift(weight, i * k)
        a = b = c = d = zero
        for j in range(0, whole, 4 * LANES):
            a = a + load(x, j, zero) * load_weights(row, j, zero)
            j1, j2, j3 = j + LANES, j + 2 * LANES, j + 3 * LANES
            b = b + load(x, j1, zero) * load_weights(row, j1, zero)
            c = c + load(x, j2, zero) * load_weights(row, j2, zero)
            d = d + load(x, j3, zero) * load_weights(row, j3, zero)
        for j in range(whole, k, LANES):
            a = a + load(x, j, zero) * load_weights(row, j, zero)
        out[i] = sum_lanes((a + b) + (c + d))


@inlined
def _eight_rows(x, weight, out, n, k, begin, end):
    """out[m, i] = x[m] . weight[i] for 8 rows m and outputs i from `begin` to `end`.

    Two outputs at a time: the 16 sums stay in registers; the variables are written out because
    numba has no arrays of vectors. a0 to a7 are sums of output i, b0 to b7 of output i + 1.
    """
    zero = zeros(x, LANES)
    x1, x2, x3, x4 = shift(x, k), shift(x, 2 * k), shift(x, 3 * k), shift(x, 4 * k)
    x5, x6, x7 = shift(x, 5 * k), shift(x, 6 * k), shift(x, 7 * k)
    for pair in range(begin, end, 2):
        i = min(pair, n - 2)  # an odd last output is computed together with the one before
        first, second = shift(weight, i * k), shift(weight, (i + 1) * k)
        a0 = a1 = a2 = a3 = a4 = a5 = a6 = a7 = zero
        b0 = b1 = b2 = b3 = b4 = b5 = b6 = b7 = zero
        for j in range(0, k, LANES):
            prefetch(first, j + 2 * k)
            prefetch(second, j + 2 * k)
            u, v = load_weights(first, j, zero), load_weights(second, j, zero)
            p = load(x, j, zero)
            a0, b0 = a0 + u * p, b0 + v * p
            p = load(x1, j, zero)
            a1, b1 = a1 + u * p, b1 + v * p
            p = load(x2, j, zero)
            a2, b2 = a2 + u * p, b2 + v * p
            p = load(x3, j, zero)
            a3, b3 = a3 + u * p, b3 + v * p
            p = load(x4, j, zero)
            a4, b4 = a4 + u * p, b4 + v * p
            p = load(x5, j, zero)
            a5, b5 = a5 + u * p, b5 + v * p
            p = load(x6, j, zero)
            a6, b6 = a6 + u * p, b6 + v * p
            p = load(x7, j, zero)
            a7, b7 = a7 + u * p, b7 + v * p
        out[i], out[i + 1] = sum_lanes(a0), sum_lanes(b0)
        out[n + i], out[n + i + 1] = sum_lanes(a1), sum_lanes(b1)
        out[2 * n + i], out[2 * n + i + 1] = sum_lanes(a2), sum_lanes(b2)
        out[3 * n + i], out[3 * n + i + 1] = sum_lanes(a3), sum_lanes(b3)
        out[4 * n + i], out[4 * n + i + 1] = sum_lanes(a4), sum_lanes(b4)
        out[5 * n + i], out[5 * n + i + 1] = sum_lanes(a5), sum_lanes(b5)
        out[6 * n + i], out[6 * n + i + 1] = sum_lanes(a6), sum_lanes(b6)
        out[7 * n + i], out[7 * n + i + 1] = sum_lanes(a7), sum_lanes(b7)


@inlined
def one_row(x, weight, half, out, n, k, begin, end):
    """`_one_row` of addresses; `half` is whether weights are bfloat16."""
    if half:
        _one_row(floats(x), halves(weight), floats(out), k, begin, end)
    else:
        _one_row(floats(x), floats(weight), floats(out), k, begin, end)


@inlined
def eight_rows(x, weight, half, out, n, k, begin, end):
    """`_eight_rows` of addresses; `half` is whether weights are bfloat16."""
    if half:
        _eight_rows(floats(x), halves(weight), floats(out), n, k, begin, end)
    else:
        _eight_rows(floats(x), floats(weight), floats(out), n, k, begin, end)


def _share_one_row(x, weight, half, out, n, k):
    """All outputs of one row, divided among the threads."""
    for part in prange((n + CHUNK - 1) // CHUNK):
        one_row(x, weight, half, out, n, k, part * CHUNK, min(part * CHUNK + CHUNK, n))


def _share_eight_rows(x, weight, half, out, n, k):
    """All outputs of eight rows, divided among the threads."""
    for part in prange((n + CHUNK - 1) // CHUNK):
        eight_rows(x, weight, half, out, n, k, part * CHUNK, min(part * CHUNK + CHUNK, n))


FAST = {"fastmath": {"contract", "reassoc", "nsz"}, "nogil": True}
"""Options of the compiler."""
_FUNCTIONS: dict[str, Callable[..., None]] = {
    "one_row": one_row.py_func,
    "eight_rows": eight_rows.py_func,
    "share_one_row": _share_one_row,
    "share_eight_rows": _share_eight_rows,
}


@cache
def _kernel(name: str) -> Callable[..., None]:
    """A function of this module, compiled for addresses."""
    is_shared = name.startswith("share")
    signature = f"void({', '.join(['int64'] * (6 if is_shared else 8))})"
    kernel: Callable[..., None] = compile_cached(
        njit, signature, _FUNCTIONS[name], parallel=is_shared, **FAST
    )
    return kernel
