"""Passes of the kernels for complete samples over plain tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from graphformer.ops.cpu.driver import contiguous_rows
from graphformer.ops.cpu.kernel_cache import kernel, shape_constants
from graphformer.ops.cpu.kernels import argument_table as at
from graphformer.ops.cpu.launch import Table, run
from graphformer.ops.cpu.samples import Samples


def forward(
    q: Tensor, k: Tensor, v: Tensor, samples: Samples, scale: float
) -> tuple[Tensor, Tensor]:
    """Return out [M, H, Dv] and the log-sum-exp [M, H]."""
    q, k, v = _inputs(q, k, v)
    out = v.new_empty(*q.shape[:2], v.shape[2])
    lse = v.new_empty(q.shape[:2])
    table = _table(q, k, v, samples, scale)
    table.update({at.OUT: out, at.LSE: lse})
    _run("complete_forward", q, v, samples, table)
    return out, lse


def backward(
    q: Tensor, k: Tensor, v: Tensor, samples: Samples, scale: float, lse: Tensor, dout: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return dq, dk and dv."""
    q, k, v = _inputs(q, k, v)
    dq, dk, dv = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, k, v))
    dout = contiguous_rows(dout, v.dtype)
    table = _table(q, k, v, samples, scale)
    table.update({
        at.LSE: lse, at.DOUT: dout, at.DOUT_STRIDE: dout.stride(0), at.DQ: dq, at.DK: dk, at.DV: dv
    })  # fmt: skip
    _run("complete_backward", q, v, samples, table)
    return dq, dk, dv


def _run(name: str, q: Tensor, v: Tensor, samples: Samples, table: Table) -> None:
    double = v.dtype == torch.float64
    lanes, width, value_width = shape_constants(double, q.shape[2], v.shape[2])
    address = kernel(name, double, lanes, width, value_width, 8 if double else 16)
    # transposed rows and gradients of the sources, and up to three rows of logits
    scratch = samples.largest * (2 * (width + value_width) + 3) + 128
    run(address, samples.number * v.shape[1], table, scratch)


def _table(q: Tensor, k: Tensor, v: Tensor, samples: Samples, scale: float) -> Table:
    heads, kv_heads = q.shape[1], v.shape[1]
    return Table({
        at.INDPTR: samples.targets, at.NEIGHBOURS: samples.sources, at.NUM_SLOTS: samples.number,
        at.HEADS: heads, at.KV_HEADS: kv_heads, at.REPEAT: heads // kv_heads,
        at.Q: q, at.Q_STRIDE: q.stride(0), at.K: k, at.K_STRIDE: k.stride(0),
        at.V: v, at.V_STRIDE: v.stride(0), at.SCALE: float(scale),
    })  # fmt: skip


def _inputs(*tensors: Tensor) -> list[Tensor]:
    """The tensors in one floating-point type, with contiguous rows."""
    double = any(x.dtype == torch.float64 for x in tensors)
    return [contiguous_rows(x, torch.float64 if double else torch.float32) for x in tensors]
