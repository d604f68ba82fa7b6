"""The compiled step: one token through all blocks of a decoder.

A step of small operations called one by one costs a third of its time outside of the matrix
products. Here one compiled function runs the blocks, and each of its parallel loops divides the
outputs of one matrix product, or the heads of the attention, among the threads.

For each block, x = x + out(attention(norm1(x))), then x = x + down(act(up(norm2(x)))).
"""

# mypy: disable-error-code="misc,no-untyped-call,no-untyped-def"
from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from graphformer.ops.cpu import launch
from graphformer.ops.cpu.decoding import fields as f
from graphformer.ops.cpu.decoding.parts import (
    BYTES,
    LANES,
    activate,
    attend,
    copy_heads,
    normalise,
    rotate,
)
from graphformer.ops.cpu.kernel_cache import compile_cached, report_compilation
from graphformer.ops.cpu.kernels.simd import as_float, inlined, read_index
from graphformer.ops.cpu.kernels.weights import floats
from graphformer.ops.cpu.skinny_linear import CHUNK, FAST, one_row


def run(table: np.ndarray, x: Tensor, *, half: bool) -> None:
    """Pass one token through all blocks; x [C] is replaced by its nodes after the last block.

    Args:
        table: int64 [blocks, NUM_FIELDS], see `fields`; the token's keys and values are written to
            slot SLOT of each cache, and it attends to slots FIRST to SLOT.
        x: float32, contiguous.
        half: whether the weights of the maps are bfloat16; else they are float32.
    """
    sizes = table[:, [f.HEADS, f.KV_HEADS, f.HEAD_DIM, f.HIDDEN, f.DIM]].max(0).tolist()
    heads, kv_heads, head_dim, hidden, dim = sizes
    slots = int((table[:, f.SLOT] - table[:, f.FIRST]).max()) + 1
    projected = max((heads + 2 * kv_heads) * head_dim, 2 * hidden, dim)
    logits = (slots + 2 * LANES) // LANES * LANES  # for each head
    scratch = np.empty(2 * projected + dim + heads * logits, np.float32)
    h = scratch.ctypes.data
    first, second = h + BYTES * dim, h + BYTES * (dim + projected)
    rest = h + BYTES * (dim + 2 * projected)
    threads = min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS)
    step = _compiled()
    with launch._lock:
        numba.set_num_threads(threads)
        step(table.ctypes.data, len(table), half, x.data_ptr(), h, first, second, rest, logits)


def is_available() -> bool:
    """Whether the step can run: in a forked process numba's threads do not exist."""
    return not launch._forked


@inlined
def _get(row, name):
    return read_index(row, 1, name)


@inlined
def _get_float(row, name):
    return as_float(read_index(row, 1, name))


@inlined
def _biased(value, bias_address, i):
    return value + floats(bias_address)[i] if bias_address else value


@inlined
def _project(x, weight, bias, half, out, n, k, part):
    """out[i] = x . weight[i] + bias[i] for the outputs i of a part of `CHUNK`."""
    begin, end = part * CHUNK, min(part * CHUNK + CHUNK, n)
    one_row(x, weight, half, out, n, k, begin, end)
    for i in range(begin, end):
        floats(out)[i] = _biased(floats(out)[i], bias, i)


@inlined
def _project_and_add(x, weight, bias, half, work, out, n, k, part):
    """out[i] = out[i] + x . weight[i] + bias[i]: the residual connection."""
    begin, end = part * CHUNK, min(part * CHUNK + CHUNK, n)
    one_row(x, weight, half, work, n, k, begin, end)
    for i in range(begin, end):
        floats(out)[i] = floats(out)[i] + _biased(floats(work)[i], bias, i)


@inlined
def _hidden_units(x, row, half, work, out, part):
    """out[i] = act(up_i), or act(gate_i) up_i, for the hidden units i of a part of `CHUNK`.

    The gates' weights are the first half of the map, and are read before the others, so that each
    part is two streams of consecutive addresses.
    """
    n, k, kind = _get(row, f.HIDDEN), _get(row, f.DIM), _get(row, f.ACTIVATION)
    weight, bias, gated = _get(row, f.UP_WEIGHT), _get(row, f.UP_BIAS), _get(row, f.GATED)
    begin, end = part * CHUNK, min(part * CHUNK + CHUNK, n)
    for first in range(0, n + 1 if gated else 1, n):
        one_row(x, weight, half, work, n, k, first + begin, first + end)
    for i in range(begin, end):
        value = activate(_biased(floats(work)[i], bias, i), kind)
        if gated:
            value = value * _biased(floats(work)[n + i], bias, n + i)
        floats(out)[i] = value


@inlined
def _attend_head(row, qkv, logits, stride, out, head):
    """Attention of one query head to the slots FIRST to SLOT of its key head."""
    heads, kv_heads, d = _get(row, f.HEADS), _get(row, f.KV_HEADS), _get(row, f.HEAD_DIM)
    first, slot = _get(row, f.FIRST), _get(row, f.SLOT)
    start = BYTES * ((head * kv_heads // heads) * _get(row, f.CAPACITY) + first) * d
    keys, values = _get(row, f.KEYS) + start, _get(row, f.VALUES) + start
    own, scale = logits + BYTES * head * stride, _get_float(row, f.SCALE)
    shift = BYTES * head * d
    attend(qkv + shift, keys, values, slot + 1 - first, scale, own, out + shift, d)


@inlined
def _store_keys_and_values(row, qkv):
    """Norm and rotation of queries and keys; keys and values are written to the cache."""
    heads, kv_heads, d = _get(row, f.HEADS), _get(row, f.KV_HEADS), _get(row, f.HEAD_DIM)
    keys = qkv + BYTES * heads * d
    values = keys + BYTES * kv_heads * d
    if _get(row, f.Q_NORM_WEIGHT):
        for head in range(heads + kv_heads):
            field = f.Q_NORM_WEIGHT if head < heads else f.K_NORM_WEIGHT
            x = qkv + BYTES * head * d
            normalise(x, _get(row, field), 0, 0, _get_float(row, field + 1), x, d)
    width = _get(row, f.ROTARY_WIDTH)
    if width:
        rotate(qkv, _get(row, f.COS), _get(row, f.SIN), width, heads + kv_heads, d)
    slot, capacity = _get(row, f.SLOT), _get(row, f.CAPACITY)
    copy_heads(keys, _get(row, f.KEYS), slot, capacity, kv_heads, d)
    copy_heads(values, _get(row, f.VALUES), slot, capacity, kv_heads, d)


@inlined
def _norm(row, name, x, out):
    """One of the block's norms, whose fields begin at `name`."""
    weight, bias, centred = _get(row, name), _get(row, name + 1), _get(row, name + 2)
    normalise(x, weight, bias, centred, _get_float(row, name + 3), out, _get(row, f.DIM))


_QKV, _ATTEND, _OUT, _UP, _DOWN = range(5)
"""The phases of a block; the parts of a phase are independent of one another."""


@inlined
def _prepare(row, phase, x, h, first):
    """What comes before the parts of a phase, on one thread."""
    if phase == _QKV:
        _norm(row, f.NORM1_WEIGHT, x, h)
    elif phase == _ATTEND:
        _store_keys_and_values(row, first)
    elif phase == _UP:
        _norm(row, f.NORM2_WEIGHT, x, h)


@inlined
def _outputs(row, phase):
    """The number of outputs of a phase's matrix product; of heads for the attention."""
    if phase == _QKV:
        return (_get(row, f.HEADS) + 2 * _get(row, f.KV_HEADS)) * _get(row, f.HEAD_DIM)
    if phase == _ATTEND:
        return _get(row, f.HEADS)
    return _get(row, f.HIDDEN) if phase == _UP else _get(row, f.DIM)


@inlined
def _run_part(row, phase, half, x, h, first, second, logits, stride, part):
    """One head of the attention, or `CHUNK` outputs of another phase.

    First has the queries, keys and values, then the gates and hidden units before the activation;
    second the heads' outputs, then the hidden units.
    """
    n, dim, hidden = _outputs(row, phase), _get(row, f.DIM), _get(row, f.HIDDEN)
    if phase == _QKV:
        weight, bias = _get(row, f.QKV_WEIGHT), _get(row, f.QKV_BIAS)
        _project(h, weight, bias, half, first, n, dim, part)
    elif phase == _ATTEND:
        _attend_head(row, first, logits, stride, second, part)
    elif phase == _UP:
        _hidden_units(h, row, half, first, second, part)
    else:
        field = f.OUT_WEIGHT if phase == _OUT else f.DOWN_WEIGHT
        width = _get(row, f.HEADS) * _get(row, f.HEAD_DIM) if phase == _OUT else hidden
        weight, bias = _get(row, field), _get(row, field + 1)
        _project_and_add(second, weight, bias, half, h, x, n, width, part)


def _step(table, blocks, half, x, h, first, second, logits, stride):
    """x [C]; work space h [C], first and second, and the logits of each head [stride]."""
    for block in range(blocks):
        row = table + 8 * block * f.NUM_FIELDS
        for phase in range(5):
            _prepare(row, phase, x, h, first)
            size = 1 if phase == _ATTEND else CHUNK
            for part in prange((_outputs(row, phase) + size - 1) // size):
                _run_part(row, phase, half, x, h, first, second, logits, stride, part)


@cache
def _compiled() -> Callable[..., None]:
    start = time.perf_counter()
    signature = f"void({', '.join(['int64'] * 9)})"
    step: Any = compile_cached(njit, signature, _step, parallel=True, **FAST)
    if not step.stats.cache_hits:
        report_compilation("step", time.perf_counter() - start)
    result: Callable[..., None] = step
    return result
