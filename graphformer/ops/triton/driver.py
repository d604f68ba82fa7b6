"""Forward and backward pass over plain tensors: allocation of results, and launches in order."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphformer.ops.common import keep_scale
from graphformer.ops.fused.operands import (
    DOT,
    Cotangents,
    EdgeGradients,
    Gradients,
    Inputs,
    Outputs,
    Settings,
)
from graphformer.ops.triton.backward import by_source, by_target, edge_features
from graphformer.ops.triton.combine import combine_softmax, combine_sums
from graphformer.ops.triton.forward import forward as forward_kernel
from graphformer.ops.triton.forward import logits_to_weights
from graphformer.ops.triton.launch import check_device, launch, power_of_two, run_items
from graphformer.ops.triton.schedule import (
    Schedule,
    SourceOrder,
    cached_schedule,
    cached_source_order,
)


def forward(x: Inputs, settings: Settings, return_weights: bool) -> Outputs:
    """Return out [M, H, Dv], z [M, H, de], log-sum-exp [M, H] and weights [E, H] (or empty)."""
    check_device(x.v)
    x = _contiguous_rows(x)
    targets, heads = x.q.shape[:2]
    sizes = _sizes(x, settings)
    schedule = cached_schedule(x.indptr)
    z_width = 0 if x.u is None else x.u.shape[2]
    out = x.v.new_empty(targets, heads, sizes["DV"])
    z = _float(x.v, targets, heads, z_width)
    lse = _float(x.v, targets, heads)
    weights = _float(x.v, len(x.indices) if return_weights else 0, heads)
    arguments = _arguments(x, settings) | sizes | {
        "indptr": x.indptr, "indices": x.indices,
        "edge_logits": weights if return_weights else None,
    }  # fmt: skip
    for items in schedule.launches:
        results: dict[str, Any] = {"out": out, "z": z, "lse": lse, "total": None}
        if items is schedule.parts:
            shape = len(items.rows), heads
            results = {
                "out": _float(x.v, *shape, sizes["DV"]), "z": _float(x.v, *shape, z_width),
                "lse": _float(x.v, *shape), "total": _float(x.v, *shape),
            }  # fmt: skip
            parts = results
        run_items(forward_kernel, items, schedule, heads, _widest(sizes), **arguments, **results)
    if schedule.parts:
        _combine_softmax(schedule, parts, "out", out, lse)
        if z_width:
            _combine_softmax(schedule, parts, "z", z, lse)
    if return_weights:
        names = ("seed", "edge_ids", "threshold", "keep_scale", "indptr", "HEADS", "edge_logits")
        shared = {name: arguments[name] for name in names} | {"lse": lse}
        for items in schedule.launches:
            run_items(logits_to_weights, items, schedule, heads, 1, **shared)
    return out, z, lse, weights


def backward(
    x: Inputs, settings: Settings, cotangents: Cotangents, needed: EdgeGradients
) -> Gradients:
    """Return the gradients of the inputs; those of edge values that are not needed are empty."""
    assert cotangents.out is not None
    x = _contiguous_rows(x)
    dout, dz, dweights = _rows(cotangents.dout), cotangents.dz, cotangents.dweights
    arguments = _arguments(x, settings) | _sizes(x, settings) | {
        "lse": cotangents.lse, "dout": dout, "dout_stride": dout.stride(0),
        "dz": None if dz is None else dz.contiguous(),
        "dweights": None if dweights is None else dweights.contiguous(),
    }  # fmt: skip
    delta, dq, du = _by_target(x, arguments | {"out": cotangents.out.contiguous()})
    arguments["delta"] = delta
    edges = _edge_gradients(x, settings, needed)
    order = x.by_source or cached_source_order(x.indptr, x.indices, x.k.shape[0])
    dk, dv, dvector = _by_source(x, arguments | edges, order)
    ds, applied = edges["dedge"], edges["applied"]
    if ds is not None and applied is not None:
        edges["dedge"] = _edge_features(x, arguments, ds, applied)
    found = (edges[name] for name in ("dedge", "dbias", "dweight"))
    # A new empty tensor for each: outputs of an operator must not alias.
    edge, bias, edge_weight = (x.v.new_empty(0) if y is None else y for y in found)
    return Gradients(dq, dk, dv, dvector, du, edge, bias, edge_weight)


def _by_target(x: Inputs, arguments: dict[str, Any]) -> tuple[Tensor, ...]:
    """Return delta [M, H], dq [M, H, D] and du [M, H, de]."""
    targets, heads, width = x.q.shape
    schedule = cached_schedule(x.indptr)
    features = 0 if x.u is None else x.u.shape[2]
    dq = x.q.new_empty(x.q.shape)
    du = x.v.new_empty(targets, heads, features) if x.u is None else x.u.new_empty(x.u.shape)
    delta = _float(x.v, targets, heads)
    shared = arguments | {"indptr": x.indptr, "indices": x.indices}
    names = ("dq", "dq_p", "du", "du_p", "delta")
    widths = [heads * n for n in (width, width, features, features, 1)]
    for items in schedule.launches:
        results: dict[str, Any] = {
            "dq": dq, "dq_p": None, "dq_stride": heads * width, "du": du, "du_p": None,
            "du_stride": heads * features, "delta": delta, "delta_stride": heads,
        }  # fmt: skip
        if items is schedule.parts:
            partial = _float(x.v, len(items.rows), sum(widths))
            results = dict(zip(names, partial.split(widths, 1), strict=True))
            results |= {f"{name}_stride": partial.shape[1] for name in ("dq", "du", "delta")}
        run_items(by_target, items, schedule, heads, _widest(arguments), **shared, **results)
    if schedule.parts:  # delta = c + eps, and dq = sum ds g - eps sum p g, as in the kernel
        total = _combine_sums(schedule, partial)
        ds_g, p_g, ds_e, p_e, eps = (
            part.unflatten(1, (heads, -1)) for part in total.split(widths, 1)
        )
        hubs = schedule.hubs.long()
        c = (arguments["out"][hubs].float() * arguments["dout"][hubs].float()).sum(-1)
        delta[hubs] = c + eps.squeeze(2)
        dq[hubs] = ((ds_g - eps * p_g) * arguments["scale"]).to(dq.dtype)
        du[hubs] = ((ds_e - eps * p_e) * arguments["scale"]).to(du.dtype)
    return delta, dq, du


def _by_source(
    x: Inputs, arguments: dict[str, Any], order: SourceOrder
) -> tuple[Tensor, Tensor, Tensor]:
    """Return dk [N, Hkv, D], dv [N, Hkv, Dv] and dvector [H, D] (or empty); write edge tensors."""
    indptr, targets, slots = order
    schedule = cached_schedule(indptr)
    heads, (kv_heads, width) = x.q.shape[1], x.k.shape[1:]
    widths = [kv_heads * width, kv_heads * x.v.shape[2]]
    dk, dv = x.k.new_empty(x.k.shape), x.v.new_empty(x.v.shape)
    shared = arguments | {"indptr": indptr, "targets": targets, "slots": slots}
    vectors = []
    for items in schedule.launches:
        results: dict[str, Any] = {
            "dk": dk, "dk_stride": widths[0], "dv": dv, "dv_stride": widths[1], "dvector": None,
        }  # fmt: skip
        if items is schedule.parts:
            partial = _float(x.v, len(items.rows), sum(widths))
            results |= dict(zip(("dk", "dv"), partial.split(widths, 1), strict=True))
            results |= dict.fromkeys(("dk_stride", "dv_stride"), partial.shape[1])
        if x.vector is not None:
            vectors.append(_float(x.v, len(items.rows), heads, width))
            results["dvector"] = vectors[-1]
        run_items(by_source, items, schedule, kv_heads, _widest(arguments), **shared, **results)
    if schedule.parts:
        total, hubs = _combine_sums(schedule, partial).split(widths, 1), schedule.hubs.long()
        for gradient, value in zip((dk, dv), total, strict=True):
            gradient[hubs] = value.to(gradient.dtype).unflatten(1, (kv_heads, -1))
    if x.vector is None:
        return dk, dv, x.v.new_empty(0)
    return dk, dv, torch.cat(vectors).sum(0) if vectors else torch.zeros_like(x.vector)


def _edge_gradients(
    x: Inputs, settings: Settings, needed: EdgeGradients
) -> dict[str, Tensor | None]:
    """Return the edge tensors that the kernel by source writes, None for those not asked for.

    For edge features, `dedge` is ds and `applied` the weights after dropout, both [E, H].
    """
    per_head = len(x.indices), x.q.shape[1]
    features = needed.edge and settings.kind == DOT
    dedge = None
    if needed.edge and x.edge is not None:
        dedge = _float(x.v, *per_head) if features else torch.empty_like(x.edge)
    return {
        "dedge": dedge,
        "dbias": _float(x.v, *per_head) if needed.bias else None,
        "dweight": _float(x.v, *per_head) if needed.edge_weight else None,
        "applied": _float(x.v, *per_head) if features else None,
    }


def _edge_features(x: Inputs, arguments: dict[str, Any], ds: Tensor, applied: Tensor) -> Tensor:
    """Return the gradient of the edge features, [E, de], of those of the logits and the weights."""
    schedule = cached_schedule(x.indptr)
    names = ("edge", "u", "dz", "edge_ids", "scale", "HEADS", "DE", "BLOCK_E")
    shared = {name: arguments[name] for name in names}
    dedge = torch.empty_like(shared.pop("edge"))
    shared |= {"ds": ds, "applied": applied, "indptr": x.indptr, "dedge": dedge}
    for items in schedule.launches:
        run_items(edge_features, items, schedule, 1, shared["BLOCK_E"], **shared)
    return dedge


def _combine_softmax(
    schedule: Schedule, parts: dict[str, Any], name: str, out: Tensor, lse: Tensor
) -> None:
    """Combine the parts of each hub and write its rows of `out` and `lse`."""
    heads, width = out.shape[1:]
    arguments = {
        "hubs": schedule.hubs, "starts": schedule.starts,
        "largest": parts["lse"], "total": parts["total"], "acc": parts[name],
        "out": out, "lse": lse, "HEADS": heads, "WIDTH": width, "BLOCK": power_of_two(width),
    }  # fmt: skip
    launch(combine_softmax, (len(schedule.hubs), heads), 0, [{"PARTS": 16}], arguments)


def _combine_sums(schedule: Schedule, partial: Tensor) -> Tensor:
    """Return the sums [hubs, width] of each hub's parts [parts, width]."""
    width = partial.shape[1]
    out = partial.new_empty(len(schedule.hubs), width)
    block = min(power_of_two(width), 128)
    arguments = {
        "starts": schedule.starts, "parts": partial, "out": out, "WIDTH": width, "BLOCK": block,
    }  # fmt: skip
    launch(combine_sums, (len(schedule.hubs), -(-width // block)), 0, [{"PARTS": 16}], arguments)
    return out


def _sizes(x: Inputs, settings: Settings) -> dict[str, int]:
    """Return the compile-time constants of the kernels."""
    heads, width = x.q.shape[1:]
    edge_width = 1
    if x.edge is not None:
        edge_width = x.edge.shape[-1]
    widths = {"D": width, "DV": x.v.shape[2], "DE": edge_width}
    blocks = zip(("BLOCK_D", "BLOCK_V", "BLOCK_E"), widths.values(), strict=True)
    sizes = {"RECTIFIED": settings.kind != DOT, "HEADS": heads, "REPEAT": heads // x.k.shape[1]}
    return sizes | widths | {name: power_of_two(value) for name, value in blocks}


def _widest(sizes: dict[str, Any]) -> int:
    return max(sizes["BLOCK_D"], sizes["BLOCK_V"], sizes["BLOCK_E"])


def _arguments(x: Inputs, settings: Settings) -> dict[str, Any]:
    """Return the arguments that all kernels have."""
    bias, weight = x.bias, x.edge_weight
    return {
        "q": x.q, "k": x.k, "v": x.v, "vector": x.vector, "u": x.u, "edge": x.edge, "bias": bias,
        "weight": weight, "seed": x.seed, "edge_ids": x.edge_ids,
        "q_stride": x.q.stride(0), "k_stride": x.k.stride(0), "v_stride": x.v.stride(0),
        "bias_stride": 0 if bias is None else bias.stride(0),
        "bias_head": 0 if bias is None else bias.stride(1),
        "weight_stride": 0 if weight is None else weight.stride(0),
        "weight_head": 0 if weight is None or weight.shape[1] == 1 else weight.stride(1),
        "scale": settings.scale, "slope": settings.slope,
        "threshold": round(settings.dropout * 2**24), "keep_scale": keep_scale(settings.dropout),
    }  # fmt: skip


def _float(like: Tensor, *shape: int) -> Tensor:
    return like.new_empty(shape, dtype=torch.float32)


def _contiguous_rows(x: Inputs) -> Inputs:
    """Return detached inputs: contiguous rows of q, k and v, and the others contiguous."""

    def dense(y: Tensor | None) -> Tensor | None:
        return None if y is None else y.detach().contiguous()

    return x._replace(
        q=_rows(x.q), k=_rows(x.k), v=_rows(x.v),
        vector=dense(x.vector), u=dense(x.u), edge=dense(x.edge),
    )  # fmt: skip


def _rows(x: Tensor) -> Tensor:
    """Return x detached, and copied unless each of its rows [H, D] is contiguous."""
    x = x.detach()
    return x if x.stride()[1:] == (x.shape[2], 1) else x.contiguous()
