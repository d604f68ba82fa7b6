"""The passes over plain tensors: what is allocated, which kernels run, in which order."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphformer.ops.cpu.dropout_kernel import SPAN
from graphformer.ops.cpu.kernel_cache import kernel, shape_constants, sweep
from graphformer.ops.cpu.launch import WorkItems, run
from graphformer.ops.custom_op import ADDITIVE, DOT, GATV2, Inputs, Settings

_BLOCK = 64


def forward(
    x: Inputs, settings: Settings, seed: Tensor | None, return_weights: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return out [M, H, Dv], z [M, H, de], log-sum-exp [M, H] and weights [E, H] (or empty)."""
    x, kind = _native(x), settings.kind
    table, constants = _table(x, settings, seed)
    targets, heads = x.q.shape[:2]
    value_width, edge_width = table["value_width"], table["edge_width"]
    out = x.v.new_empty(targets, heads, value_width)
    z = x.v.new_empty(targets, heads, edge_width)
    lse = x.v.new_empty(targets, heads)
    weights = x.v.new_empty(len(x.indices) if return_weights else 0, heads)
    plan = WorkItems(x.indptr, len(x.indices))
    partial = x.v.new_empty(plan.num_parts, heads * (value_width + edge_width + 2))
    block = _block(plan)
    table |= {
        "indptr": x.indptr, "neighbours": x.indices, "items": plan.items, "hubs": plan.hubs,
        "out": out, "z": z, "lse": lse, "weights": weights if weights.numel() else None,
        "partial": partial, "block": block,
    }  # fmt: skip
    double = x.v.dtype == torch.float64
    scratch = heads * (2 * block + table["width"] + value_width + 2 * edge_width + 2)
    run(kernel("forward", double, kind, *constants), plan.num_items, table, scratch)
    if plan.num_hubs:
        run(kernel("forward_join", double, 8), plan.num_hubs, table, 0)
    if weights.numel():
        run(kernel("weights", double, constants[0]), plan.num_items, table, scratch)
    return out, z, lse, weights


def backward(
    x: Inputs, settings: Settings, seed: Tensor | None,
    order: tuple[Tensor, Tensor, Tensor] | None, out: Tensor, lse: Tensor,
    dout: Tensor, dz: Tensor | None, dweights: Tensor | None, edge_grads: tuple[bool, ...],
) -> tuple[Tensor, ...]:  # fmt: skip
    """Return the gradients of q, k, v, vector, u, edge, bias and edge_weight (or empty).

    `edge_grads` says whether the last but one, two and three are wanted; `order` is the CSR's
    `by_source`, made here if it is None. The output is not read: delta is summed in the pass.
    """
    x, kind = _native(x), settings.kind
    table, constants = _table(x, settings, seed)
    double = x.v.dtype == torch.float64
    heads, kv_heads = x.q.shape[1], x.v.shape[1]
    width, value_width, edge_width = (table[f"{name}width"] for name in ("", "value_", "edge_"))
    dout = _rows(dout.to(x.v.dtype))
    num_edges = len(x.indices)
    per_edge = _edge_gradients(x, num_edges, heads, edge_grads)
    grads = {
        "dq": torch.empty_like(x.q, memory_format=torch.contiguous_format),
        "dk": torch.empty_like(x.k, memory_format=torch.contiguous_format),
        "dv": torch.empty_like(x.v, memory_format=torch.contiguous_format),
        "du": x.v.new_empty(len(x.q), heads, edge_width),
    } | per_edge
    delta = torch.empty_like(lse)
    table |= grads | {
        "lse": lse, "delta": delta, "dout": dout, "dout_stride": dout.stride(0),
        "dz": None if dz is None else dz.to(x.v.dtype).contiguous(),
        "dweights": None if dweights is None else dweights.to(x.v.dtype).contiguous(),
    }  # fmt: skip

    plan = WorkItems(x.indptr, num_edges)
    if kind == GATV2:
        table["dvector"] = x.v.new_empty(plan.num_items, heads, width)
    partial = x.v.new_empty(plan.num_parts, heads * (width + edge_width))
    table |= {
        "indptr": x.indptr, "neighbours": x.indices, "items": plan.items, "hubs": plan.hubs,
        "partial": partial, "phase": 0,
    }  # fmt: skip
    by_target = kernel("by_target", double, kind, *constants)
    scratch = heads * (width + 2 * edge_width + 4 * (1024 + 32))
    run(by_target, plan.num_items, table, scratch)
    if plan.num_hubs:
        _join(plan, partial, delta, None, double)
        run(by_target, plan.num_items, table | {"phase": 1}, scratch)
        _join(plan, partial, grads["dq"], grads["du"], double)

    indptr, targets, slots = order or by_source(x.indptr, x.indices, len(x.k))
    plan = WorkItems(indptr, num_edges)
    block = _block(plan)
    partial = x.v.new_empty(plan.num_parts, kv_heads * (width + value_width))
    table |= {
        "indptr": indptr, "neighbours": targets, "slots": slots, "items": plan.items,
        "hubs": plan.hubs, "partial": partial, "block": block,
    }  # fmt: skip
    scratch = heads * 3 * block + kv_heads * width
    run(kernel("by_source", double, kind, *constants), plan.num_items, table, scratch)
    if plan.num_hubs:
        _join(plan, partial, grads["dk"], grads["dv"], double)
    dvector = table["dvector"].sum(0) if kind == GATV2 else x.v.new_empty(0)
    edges = (per_edge.get(name, x.v.new_empty(0)) for name in ("dedge", "dbias", "dweight"))
    return grads["dq"], grads["dk"], grads["dv"], dvector, grads["du"], *edges


def drop_numbers(x: Tensor, dropout: float, seed: Tensor) -> Tensor:
    """x with each number dropped at that probability, the others scaled by 1 / (1 - dropout)."""
    double = x.dtype == torch.float64
    values = (x if double else x.float()).contiguous()
    out = torch.empty_like(values)
    table = _dropout(dropout, seed) | {"width": x.numel(), "v": values, "out": out}
    run(kernel("drop_numbers", double), -(-x.numel() // SPAN), table, 0)
    return out.to(x.dtype)


def by_source(indptr: Tensor, indices: Tensor, sources: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return `CSR.by_source` of a CSR: indptr [N + 1], targets [E] and slots [E]."""
    dtype = indptr.dtype
    ordered, slots = indices.to(dtype).sort(stable=True)
    starts = torch.searchsorted(ordered, torch.arange(sources + 1, dtype=dtype))
    targets = torch.searchsorted(indptr, slots.to(dtype), right=True) - 1
    return starts.to(dtype), targets.to(dtype), slots.to(dtype)


def _edge_gradients(
    x: Inputs, num_edges: int, heads: int, wanted: tuple[bool, ...]
) -> dict[str, Tensor]:
    shapes: dict[str, tuple[int, ...]] = {
        "dbias": (num_edges, heads),
        "dweight": (num_edges, heads),
    }
    if x.edge is not None:
        shapes["dedge"] = tuple(x.edge.shape)
    names = ("dedge", "dbias", "dweight")
    return {n: x.v.new_empty(shapes[n]) for n, want in zip(names, wanted, strict=True) if want}


def _join(
    plan: WorkItems, partial: Tensor, first: Tensor, second: Tensor | None, double: bool
) -> None:
    """Sum the parts of each hub into its row of `first` and `second`."""
    width = first[0].numel()
    table: dict[str, Any] = {
        "hubs": plan.hubs, "partial": partial, "out": first, "width": width,
        "z": second, "value_width": 0 if second is None else second[0].numel(),
    }  # fmt: skip
    run(kernel("sum_join", double, 8), plan.num_hubs, table, 0)


def _block(plan: WorkItems) -> int:
    return _BLOCK


def _table(
    x: Inputs, settings: Settings, seed: Tensor | None
) -> tuple[dict[str, Any], tuple[int, int, int, int]]:
    """The table's part that is the same for all passes, and the constants of the kernels."""
    kind, scale, slope, dropout = settings
    width = 1 if kind == ADDITIVE else x.q.shape[2]
    edge_width = x.edge.shape[1] if x.edge is not None and kind == DOT else 0
    table: dict[str, Any] = {
        "edge_ids": x.edge_ids, "wide": x.indptr.dtype == torch.int64,
        "heads": x.q.shape[1], "kv_heads": x.v.shape[1],
        "repeat": x.q.shape[1] // x.v.shape[1], "width": width,
        "value_width": x.v.shape[2], "edge_width": edge_width, "prefetch": 1,
        "q": x.q, "q_stride": x.q.stride(0), "k": x.k, "k_stride": x.k.stride(0),
        "v": x.v, "v_stride": x.v.stride(0), "vector": x.vector, "u": x.u,
        "edge": x.edge, "scale": float(scale), "slope": float(slope),
    }  # fmt: skip
    if x.bias is not None:
        table |= {"bias": x.bias, "bias_stride": x.bias.stride(0), "bias_head": x.bias.stride(1)}
    if x.edge_weight is not None:
        w = x.edge_weight
        head = 0 if w.shape[1] == 1 else w.stride(1)
        table |= {"weight": w, "weight_stride": w.stride(0), "weight_head": head}
    if seed is not None:
        table |= _dropout(dropout, seed)
    double = x.v.dtype == torch.float64
    sweeps = {"list_edges", "write_edges", "add_edges"}
    sweeps |= {"multiply"} if x.edge_weight is not None else set()
    sweeps |= {"add_bias"} if x.bias is not None else set()
    sweeps |= {"drop"} if seed is not None else set()
    table |= {name: sweep(name, double) for name in sweeps}
    widths = 0 if kind == ADDITIVE else width, x.v.shape[2]
    return table, (*shape_constants(double, *widths), int(x.edge is not None and kind != ADDITIVE))


def _dropout(dropout: float, seed: Tensor) -> dict[str, Any]:
    """The table's part that says what to drop."""
    threshold = round(dropout * 2**24)
    return {"dropout": threshold, "keep_scale": 1 / (1 - dropout), "seed": int(seed)}


def _native(x: Inputs) -> Inputs:
    """All numbers in one type that the kernels know, rows of q, k, v without gaps."""
    floats = [y.dtype for y in x if y is not None and y.is_floating_point()]
    dtype = torch.float64 if torch.float64 in floats else torch.float32

    def to(y: Tensor | None) -> Tensor | None:
        return None if y is None else y.detach().to(dtype)

    def rows(y: Tensor, dense: bool) -> Tensor:
        return _rows(y.detach().to(dtype), dense=dense)

    scores = x.q.ndim == 2
    return x._replace(
        q=rows(x.q, scores), k=rows(x.k, scores), v=rows(x.v, False),
        vector=_dense(to(x.vector)), u=_dense(to(x.u)), edge=_dense(to(x.edge)),
        bias=to(x.bias), edge_weight=to(x.edge_weight),
    )  # fmt: skip


def _dense(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.contiguous()


def _rows(x: Tensor, dense: bool = False) -> Tensor:
    """x, copied unless each row [H, D] of it is contiguous."""
    regular = not dense and x.ndim == 3 and x.stride()[1:] == (x.shape[2], 1)
    return x if regular and x.stride(0) >= 0 else x.contiguous()
