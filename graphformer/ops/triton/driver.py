"""The passes over plain tensors: what is allocated, which kernels run, in which order."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphformer.ops.custom_op import DOT, Inputs, Settings
from graphformer.ops.triton.backward import by_source, by_target, edge_features
from graphformer.ops.triton.forward import forward as forward_kernel
from graphformer.ops.triton.forward import weigh
from graphformer.ops.triton.join import join_softmax, join_sum
from graphformer.ops.triton.launch import check_device, launch, power_of_two, run_items
from graphformer.ops.triton.plan import LaunchPlan, order_of, plan_of


def forward(
    x: Inputs, settings: Settings, seed: Tensor | None, return_weights: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return out [M, H, Dv], z [M, H, de], log-sum-exp [M, H] and weights [E, H] (or empty)."""
    check_device(x.v)
    x = _regular(x)
    targets, heads = x.q.shape[:2]
    sizes = _sizes(x, settings)
    plan = plan_of(x.indptr)
    z_width = 0 if x.u is None else x.u.shape[2]
    out = x.v.new_empty(targets, heads, sizes["DV"])
    z = _float(x.v, targets, heads, z_width)
    lse = _float(x.v, targets, heads)
    weights = _float(x.v, len(x.indices) if return_weights else 0, heads)
    arguments = _arguments(x, settings, seed) | sizes | {
        "indptr": x.indptr, "indices": x.indices, "logits": weights if return_weights else None,
    }  # fmt: skip
    block = _widest(sizes)
    for items in plan.launches:
        results: dict[str, Any] = {"out": out, "z": z, "lse": lse, "total": None}
        if items is plan.parts:
            shape = len(items.rows), heads
            results = {
                "out": _float(x.v, *shape, sizes["DV"]), "z": _float(x.v, *shape, z_width),
                "lse": _float(x.v, *shape), "total": _float(x.v, *shape),
            }  # fmt: skip
            parts = results
        run_items(forward_kernel, items, plan, heads, block, **arguments, **results)
    if plan.parts:
        _join_softmax(plan, parts, "out", out, lse)
        if z_width:
            _join_softmax(plan, parts, "z", z, lse)
    if return_weights:
        names = ("seed", "edge_ids", "threshold", "keep_scale", "indptr", "HEADS")
        shared = {name: arguments[name] for name in names}
        for items in plan.launches:
            run_items(weigh, items, plan, heads, 1, **shared, logits=weights, lse=lse)
    return out, z, lse, weights


def backward(
    x: Inputs, settings: Settings, seed: Tensor | None,
    order: tuple[Tensor, Tensor, Tensor] | None, out: Tensor, lse: Tensor,
    dout: Tensor, dz: Tensor | None, dweights: Tensor | None, wanted: tuple[bool, ...],
) -> tuple[Tensor, ...]:  # fmt: skip
    """Return the gradients of q, k, v, vector, u, edge, bias and edge_weight (or empty).

    `wanted` says whether those of edge, bias and edge_weight are asked for.
    """
    x = _regular(x)
    sizes = _sizes(x, settings)
    arguments = _arguments(x, settings, seed) | sizes
    dout = _rows(dout)
    arguments |= {
        "lse": lse, "dout": dout, "dout_stride": dout.stride(0),
        "dz": None if dz is None else dz.contiguous(),
        "dweights": None if dweights is None else dweights.contiguous(),
    }  # fmt: skip
    delta, dq, du = _by_target(x, arguments | {"out": out.contiguous()})
    order = order or order_of(x.indptr, x.indices, x.k.shape[0])
    dk, dv, dvector, *edges = _by_source(x, arguments | {"delta": delta}, settings, order, wanted)
    return dq, dk, dv, dvector, du, *edges


def _by_target(x: Inputs, arguments: dict[str, Any]) -> tuple[Tensor, ...]:
    """Return delta [M, H], dq [M, H, D] and du [M, H, de]."""
    targets, heads, width = x.q.shape
    plan = plan_of(x.indptr)
    features = 0 if x.u is None else x.u.shape[2]
    dq = x.q.new_empty(x.q.shape)
    du = x.v.new_empty(targets, heads, features) if x.u is None else x.u.new_empty(x.u.shape)
    delta = _float(x.v, targets, heads)
    shared = arguments | {"indptr": x.indptr, "indices": x.indices}
    for items in plan.launches:
        results: dict[str, Any] = {
            "dq": dq, "dq_less": None, "dq_stride": heads * width, "du": du, "du_less": None,
            "du_stride": heads * features, "delta": delta, "delta_stride": heads,
        }  # fmt: skip
        if items is plan.parts:
            record = _float(x.v, len(items.rows), heads * (2 * width + 2 * features + 1))
            names = ("dq", "dq_less", "du", "du_less", "delta")
            widths = [heads * n for n in (width, width, features, features, 1)]
            results = dict(zip(names, record.split(widths, 1), strict=True))
            results |= {f"{name}_stride": record.shape[1] for name in ("dq", "du", "delta")}
        run_items(by_target, items, plan, heads, _widest(arguments), **shared, **results)
    if plan.parts:
        total = _join_sum(plan, record)
        acc, less, more, more_less, e = (
            part.unflatten(1, (heads, -1)) for part in total.split(widths, 1)
        )
        hubs = plan.hubs.long()
        shift = (arguments["out"][hubs].float() * arguments["dout"][hubs].float()).sum(-1)
        delta[hubs] = shift + e.squeeze(2)
        dq[hubs] = ((acc - e * less) * arguments["scale"]).to(dq.dtype)
        du[hubs] = ((more - e * more_less) * arguments["scale"]).to(du.dtype)
    return delta, dq, du


def _by_source(
    x: Inputs, arguments: dict[str, Any], settings: Settings,
    order: tuple[Tensor, Tensor, Tensor], wanted: tuple[bool, ...],
) -> tuple[Tensor, ...]:  # fmt: skip
    """Return dk, dv, dvector, dedge, dbias and dweight; the last four may be empty."""
    indptr, targets, slots = order
    plan = plan_of(indptr)
    heads, (kv_heads, width) = x.q.shape[1], x.k.shape[1:]
    value_width = x.v.shape[2]
    dk, dv = x.k.new_empty(x.k.shape), x.v.new_empty(x.v.shape)
    num_edges = len(x.indices)
    features = wanted[0] and settings.kind == DOT
    edges: dict[str, Any] = {
        "dbias": _float(x.v, num_edges, heads) if wanted[1] else None,
        "dweight": _float(x.v, num_edges, heads) if wanted[2] else None,
        "dedge": None, "applied": _float(x.v, num_edges, heads) if features else None,
    }  # fmt: skip
    if wanted[0] and x.edge is not None:
        edges["dedge"] = _float(x.v, num_edges, heads) if features else torch.empty_like(x.edge)
    shared = arguments | edges | {"indptr": indptr, "targets": targets, "slots": slots}
    vectors = []
    for items in plan.launches:
        results: dict[str, Any] = {
            "dk": dk, "dk_stride": kv_heads * width, "dv": dv, "dv_stride": kv_heads * value_width,
            "dvector": None,
        }  # fmt: skip
        if items is plan.parts:
            widths = [kv_heads * width, kv_heads * value_width]
            record = _float(x.v, len(items.rows), sum(widths))
            results |= dict(zip(("dk", "dv"), record.split(widths, 1), strict=True))
            results |= dict.fromkeys(("dk_stride", "dv_stride"), record.shape[1])
        if x.vector is not None:
            vectors.append(_float(x.v, len(items.rows), heads, width))
            results["dvector"] = vectors[-1]
        run_items(by_source, items, plan, kv_heads, _widest(arguments), **shared, **results)
    if plan.parts:
        total, hubs = _join_sum(plan, record).split(widths, 1), plan.hubs.long()
        for gradient, value in zip((dk, dv), total, strict=True):
            gradient[hubs] = value.to(gradient.dtype).unflatten(1, (kv_heads, -1))
    dvector = torch.cat(vectors).sum(0) if vectors else x.v.new_empty(0)
    if x.vector is not None and not vectors:
        dvector = torch.zeros_like(x.vector)
    if features:
        edges["dedge"] = _edge_features(x, arguments, edges["dedge"], edges["applied"])
    found = (edges[name] for name in ("dedge", "dbias", "dweight"))
    return dk, dv, dvector, *(x.v.new_empty(0) if y is None else y for y in found)


def _edge_features(x: Inputs, arguments: dict[str, Any], ds: Tensor, applied: Tensor) -> Tensor:
    """The gradient of the edge features, [E, de], from those of the scores and the weights."""
    plan = plan_of(x.indptr)
    names = ("edge", "u", "dz", "edge_ids", "scale", "HEADS", "DE", "BLOCK_E")
    shared = {name: arguments[name] for name in names}
    dedge = torch.empty_like(shared.pop("edge"))
    shared |= {"ds": ds, "applied": applied, "indptr": x.indptr, "dedge": dedge}
    for items in plan.launches:
        run_items(edge_features, items, plan, 1, shared["BLOCK_E"], **shared)
    return dedge


def _join_softmax(
    plan: LaunchPlan, parts: dict[str, Any], name: str, out: Tensor, lse: Tensor
) -> None:
    """Put the parts of each hub together, into its rows of `out` and `lse`."""
    heads, width = out.shape[1:]
    arguments = {
        "hubs": plan.hubs, "starts": plan.starts, "largest": parts["lse"], "total": parts["total"],
        "acc": parts[name], "out": out, "lse": lse, "HEADS": heads, "WIDTH": width,
        "BLOCK": power_of_two(width),
    }  # fmt: skip
    launch(join_softmax, (len(plan.hubs), heads), 0, [{"PARTS": 16}], arguments)


def _join_sum(plan: LaunchPlan, record: Tensor) -> Tensor:
    """The sum of each hub's parts [parts, width], [hubs, width]."""
    width = record.shape[1]
    out = record.new_empty(len(plan.hubs), width)
    block = min(power_of_two(width), 128)
    arguments = {
        "starts": plan.starts, "parts": record, "out": out, "WIDTH": width, "BLOCK": block,
    }  # fmt: skip
    launch(join_sum, (len(plan.hubs), -(-width // block)), 0, [{"PARTS": 16}], arguments)
    return out


def _sizes(x: Inputs, settings: Settings) -> dict[str, int]:
    """The constants of the kernels."""
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


def _arguments(x: Inputs, settings: Settings, seed: Tensor | None) -> dict[str, Any]:
    """What all kernels are told."""
    bias, weight = x.bias, x.edge_weight
    return {
        "q": x.q, "k": x.k, "v": x.v, "vector": x.vector, "u": x.u, "edge": x.edge, "bias": bias,
        "weight": weight, "seed": seed, "edge_ids": x.edge_ids,
        "q_stride": x.q.stride(0), "k_stride": x.k.stride(0), "v_stride": x.v.stride(0),
        "bias_stride": 0 if bias is None else bias.stride(0),
        "bias_head": 0 if bias is None else bias.stride(1),
        "weight_stride": 0 if weight is None else weight.stride(0),
        "weight_head": 0 if weight is None or weight.shape[1] == 1 else weight.stride(1),
        "scale": settings.scale, "slope": settings.slope,
        "threshold": round(settings.dropout * 2**24), "keep_scale": 1 / (1 - settings.dropout),
    }  # fmt: skip


def _float(like: Tensor, *shape: int) -> Tensor:
    return like.new_empty(shape, dtype=torch.float32)


def _regular(x: Inputs) -> Inputs:
    """The inputs without their history, rows of q, k and v without gaps, the others dense."""

    def dense(y: Tensor | None) -> Tensor | None:
        return None if y is None else y.detach().contiguous()

    return x._replace(
        q=_rows(x.q), k=_rows(x.k), v=_rows(x.v),
        vector=dense(x.vector), u=dense(x.u), edge=dense(x.edge),
    )  # fmt: skip


def _rows(x: Tensor) -> Tensor:
    """x, copied unless each row [H, D] of it is contiguous."""
    x = x.detach()
    return x if x.stride()[1:] == (x.shape[2], 1) else x.contiguous()
