"""Forward and backward pass over plain tensors: allocates results and runs kernels in order."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphformer.ops.common import keep_scale
from graphformer.ops.cpu.argument_table import CHUNK
from graphformer.ops.cpu.dropout_kernel import SPAN
from graphformer.ops.cpu.kernel_cache import kernel, shape_constants, step
from graphformer.ops.cpu.launch import WorkItems, run
from graphformer.ops.operands import (
    ADDITIVE,
    DOT,
    GATV2,
    Cotangents,
    EdgeGradients,
    Gradients,
    Inputs,
    Outputs,
    Settings,
)

TILE = 64
"""Edges per tile of the forward pass and of the backward pass by source."""
ROW_TILE = CHUNK + 32
"""Largest padded tile of the backward pass by target, whose tiles are whole rows."""
JOIN_LANES = 8


def forward(x: Inputs, settings: Settings, return_weights: bool) -> Outputs:
    """Return out [M, H, Dv], z [M, H, F], log-sum-exp [M, H] and weights [E, H] (or empty)."""
    x, kind = _kernel_inputs(x), settings.kind
    table, constants = _table(x, settings)
    targets, heads = x.q.shape[:2]
    value_width, edge_width = table["value_width"], table["edge_width"]
    out = x.v.new_empty(targets, heads, value_width)
    z = x.v.new_empty(targets, heads, edge_width)
    lse = x.v.new_empty(targets, heads)
    weights = x.v.new_empty(len(x.indices) if return_weights else 0, heads)
    work = WorkItems(x.indptr, len(x.indices))
    partial = x.v.new_empty(work.num_parts, heads * (value_width + edge_width + 2))
    table |= _rows_table(x.indptr, x.indices, work, partial) | {
        "tile_stride": TILE, "out": out, "z": z, "lse": lse,
        "weights": weights if weights.numel() else None,
    }  # fmt: skip
    double = x.v.dtype == torch.float64
    scratch = heads * (2 * TILE + table["width"] + value_width + 2 * edge_width + 2)
    run(kernel("forward", double, kind, *constants), work.num_items, table, scratch)
    if work.num_hubs:
        run(kernel("forward_join", double, JOIN_LANES), work.num_hubs, table, 0)
    if weights.numel():
        run(kernel("weights", double, constants[0]), work.num_items, table, scratch)
    return out, z, lse, weights


def backward(
    x: Inputs, settings: Settings, cotangents: Cotangents, needed: EdgeGradients
) -> Gradients:
    """Return the gradients. The output is not read: delta is summed in the pass by target."""
    x = _kernel_inputs(x)
    table, constants = _table(x, settings)
    dout = _contiguous_rows(cotangents.dout.to(x.v.dtype))
    table |= {
        "lse": cotangents.lse, "delta": torch.empty_like(cotangents.lse),
        "dout": dout, "dout_stride": dout.stride(0),
        "dz": _dense(cotangents.dz, x.v.dtype), "dweights": _dense(cotangents.dweights, x.v.dtype),
    }  # fmt: skip
    edge_grads = _edge_gradients(x, needed)
    dq, du, dvector = _by_target(x, settings.kind, table | edge_grads, constants)
    dk, dv = _by_source(x, settings.kind, table, constants)
    edge, bias, edge_weight = (
        edge_grads.get(name, x.v.new_empty(0)) for name in ("dedge", "dbias", "dweight")
    )
    return Gradients(dq, dk, dv, dvector, du, edge, bias, edge_weight)


def _by_target(
    x: Inputs, kind: int, table: dict[str, Any], constants: tuple[int, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return dq [M, H, D], du [M, H, F] and dvector [H, D] (or empty).

    Fills delta and the gradients of edge values in the table.
    """
    double = x.v.dtype == torch.float64
    heads, width, edge_width = table["heads"], table["width"], table["edge_width"]
    dq = torch.empty_like(x.q, memory_format=torch.contiguous_format)
    du = x.v.new_empty(len(x.q), heads, edge_width)
    work = WorkItems(x.indptr, len(x.indices))
    dvectors = x.v.new_empty(work.num_items if kind == GATV2 else 0, heads, width)
    partial = x.v.new_empty(work.num_parts, heads * (width + edge_width))
    table = table | _rows_table(x.indptr, x.indices, work, partial)
    table |= {"dq": dq, "du": du, "dvector": dvectors, "phase": 0}
    by_target = kernel("by_target", double, kind, *constants)
    scratch = heads * (width + 2 * edge_width + 4 * ROW_TILE)
    run(by_target, work.num_items, table, scratch)
    if work.num_hubs:  # delta of split rows first, then what depends on it
        _join(work, partial, table["delta"], None)
        run(by_target, work.num_items, table | {"phase": 1}, scratch)
        _join(work, partial, dq, du)
    return dq, du, dvectors.sum(0) if kind == GATV2 else x.v.new_empty(0)


def _by_source(
    x: Inputs, kind: int, table: dict[str, Any], constants: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """Return dk [N, Hkv, D] and dv [N, Hkv, Dv]; reads delta."""
    double = x.v.dtype == torch.float64
    heads, kv_heads = table["heads"], table["kv_heads"]
    width, value_width = table["width"], table["value_width"]
    dk = torch.empty_like(x.k, memory_format=torch.contiguous_format)
    dv = torch.empty_like(x.v, memory_format=torch.contiguous_format)
    indptr, targets, slots = x.by_source or by_source(x.indptr, x.indices, len(x.k))
    work = WorkItems(indptr, len(x.indices))
    partial = x.v.new_empty(work.num_parts, kv_heads * (width + value_width))
    table = table | _rows_table(indptr, targets, work, partial)
    table |= {"slots": slots, "tile_stride": TILE, "dk": dk, "dv": dv}
    scratch = heads * 3 * TILE + kv_heads * width
    run(kernel("by_source", double, kind, *constants), work.num_items, table, scratch)
    if work.num_hubs:
        _join(work, partial, dk, dv)
    return dk, dv


def dropout(x: Tensor, probability: float, seed: Tensor) -> Tensor:
    """x with each element dropped at that probability, the others times 1 / (1 - probability)."""
    double = x.dtype == torch.float64
    values = (x if double else x.float()).contiguous()
    out = torch.empty_like(values)
    table = _dropout_table(probability, seed) | {"width": x.numel(), "v": values, "out": out}
    run(kernel("dropout", double), -(-x.numel() // SPAN), table, 0)
    return out.to(x.dtype)


def by_source(indptr: Tensor, indices: Tensor, sources: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return `CSR.by_source` of a CSR: indptr [N + 1], targets [E] and slots [E]."""
    dtype = indptr.dtype
    ordered, slots = indices.to(dtype).sort(stable=True)
    starts = torch.searchsorted(ordered, torch.arange(sources + 1, dtype=dtype))
    targets = torch.searchsorted(indptr, slots.to(dtype), right=True) - 1
    return starts.to(dtype), targets.to(dtype), slots.to(dtype)


def _edge_gradients(x: Inputs, needed: EdgeGradients) -> dict[str, Tensor]:
    """Room for the gradients of edge values that are needed, by field of the table."""
    per_edge = len(x.indices), x.q.shape[1]
    grads = {}
    if needed.edge and x.edge is not None:
        grads["dedge"] = x.v.new_empty(x.edge.shape)
    if needed.bias:
        grads["dbias"] = x.v.new_empty(per_edge)
    if needed.edge_weight:
        grads["dweight"] = x.v.new_empty(per_edge)
    return grads


def _join(work: WorkItems, partial: Tensor, first: Tensor, second: Tensor | None) -> None:
    """Sum the parts of each split row into its row of `first` and `second`."""
    table: dict[str, Any] = {
        "hubs": work.hubs, "partial": partial, "out": first, "width": first[0].numel(),
        "z": second, "value_width": 0 if second is None else second[0].numel(),
    }  # fmt: skip
    run(kernel("sum_join", first.dtype == torch.float64, JOIN_LANES), work.num_hubs, table, 0)


# The argument table -----------------------------------------------------------------------------


def _table(x: Inputs, settings: Settings) -> tuple[dict[str, Any], tuple[int, int, int, int]]:
    """The entries that all passes share, and the constants of the kernels."""
    kind, scale, slope, dropout = settings
    width = 1 if kind == ADDITIVE else x.q.shape[2]
    edge_width = x.edge.shape[1] if x.edge is not None and kind == DOT else 0
    table: dict[str, Any] = {
        "edge_ids": x.edge_ids, "wide": x.indptr.dtype == torch.int64,
        "heads": x.q.shape[1], "kv_heads": x.v.shape[1], "repeat": x.q.shape[1] // x.v.shape[1],
        "width": width, "value_width": x.v.shape[2], "edge_width": edge_width,
        "q": x.q, "q_stride": x.q.stride(0), "k": x.k, "k_stride": x.k.stride(0),
        "v": x.v, "v_stride": x.v.stride(0), "vector": x.vector, "u": x.u,
        "edge": x.edge, "scale": float(scale), "slope": float(slope),
    }  # fmt: skip
    steps = {"list_edges", "write_edges", "add_edges"}
    if x.bias is not None:
        steps.add("add_bias")
        table |= {"bias": x.bias, "bias_stride": x.bias.stride(0), "bias_head": x.bias.stride(1)}
    if x.edge_weight is not None:
        steps.add("multiply")
        weight = x.edge_weight
        head = 0 if weight.shape[1] == 1 else weight.stride(1)
        table |= {"weight": weight, "weight_stride": weight.stride(0), "weight_head": head}
    if x.seed is not None:
        steps.add("drop")
        table |= _dropout_table(dropout, x.seed)
    double = x.v.dtype == torch.float64
    table |= {name: step(name, double) for name in steps}
    widths = 0 if kind == ADDITIVE else width, x.v.shape[2]
    edges = int(x.edge is not None and kind != ADDITIVE)
    return table, (*shape_constants(double, *widths), edges)


def _rows_table(
    indptr: Tensor, neighbours: Tensor, work: WorkItems, partial: Tensor
) -> dict[str, Any]:
    """The entries of a pass over rows: their edges, work items and the records of split rows."""
    return {
        "indptr": indptr, "neighbours": neighbours, "items": work.items, "hubs": work.hubs,
        "partial": partial,
    }  # fmt: skip


def _dropout_table(dropout: float, seed: Tensor) -> dict[str, Any]:
    """The entries of dropout: an element is kept if its 24 random bits reach the threshold."""
    threshold = round(dropout * 2**24)
    return {"dropout": threshold, "keep_scale": keep_scale(dropout), "seed": int(seed)}


# Inputs -----------------------------------------------------------------------------------------


def _kernel_inputs(x: Inputs) -> Inputs:
    """The inputs in one floating-point type, with contiguous rows of q, k and v."""
    floats = [y.dtype for y in x if y is not None and y.is_floating_point()]
    dtype = torch.float64 if torch.float64 in floats else torch.float32

    def to(y: Tensor | None) -> Tensor | None:
        return None if y is None else y.detach().to(dtype)

    def rows(y: Tensor, dense: bool) -> Tensor:
        return _contiguous_rows(y.detach().to(dtype), dense=dense)

    scores = x.q.ndim == 2
    return x._replace(
        q=rows(x.q, scores), k=rows(x.k, scores), v=rows(x.v, False),
        vector=_dense(x.vector, dtype), u=_dense(x.u, dtype), edge=_dense(x.edge, dtype),
        bias=to(x.bias), edge_weight=to(x.edge_weight),
    )  # fmt: skip


def _dense(x: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    return None if x is None else x.detach().to(dtype).contiguous()


def _contiguous_rows(x: Tensor, dense: bool = False) -> Tensor:
    """x, copied unless each row [H, D] of it is contiguous, or, if `dense`, all of it is."""
    regular = not dense and x.ndim == 3 and x.stride()[1:] == (x.shape[2], 1)
    return x if regular and x.stride(0) >= 0 else x.contiguous()
