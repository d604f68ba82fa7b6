"""The passes as torch operators: autograd, `torch.compile` and autocast see ordinary ones."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from graphformer.ops.cpu.table import DOT

Outputs = tuple[Tensor, Tensor, Tensor, Tensor]
Gradients = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def load_passes() -> ModuleType:
    """The module that runs kernels; ImportError if numba does not load."""
    try:
        from graphformer.ops.cpu import passes
    except (ImportError, OSError) as error:
        raise ImportError(
            f"the cpu backend needs numba, which does not load ({error}); reinstall it with "
            "`pip install --force-reinstall numba`, or choose backend='scatter'"
        ) from error
    return passes


@torch.library.custom_op("graphformer::cpu_attend", mutates_args=(), device_types="cpu")
def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    vector: Tensor | None,
    u: Tensor | None,
    edge: Tensor | None,
    bias: Tensor | None,
    edge_weight: Tensor | None,
    indptr: Tensor,
    indices: Tensor,
    edge_ids: Tensor | None,
    source_indptr: Tensor | None,
    source_targets: Tensor | None,
    source_slots: Tensor | None,
    seed: Tensor | None,
    kind: int,
    scale: float,
    slope: float,
    dropout: float,
    return_weights: bool,
) -> Outputs:
    """Return (out, sum of weighted edge features, log-sum-exp, weights); see `passes.forward`.

    The by-source order is for the backward pass, which makes its own where none is given.
    """
    passes = load_passes()
    x = passes.Inputs(q, k, v, vector, u, edge, bias, edge_weight, indptr, indices, edge_ids)
    out, z, lse, weights = passes.forward(x, kind, scale, slope, dropout, seed, return_weights)
    return out.to(v.dtype), z, lse, weights


@attend.register_fake
def _(
    q: Tensor, k: Tensor, v: Tensor, vector: Tensor | None, u: Tensor | None,
    edge: Tensor | None, bias: Tensor | None, edge_weight: Tensor | None, indptr: Tensor,
    indices: Tensor, *rest: Any,
) -> Outputs:  # fmt: skip
    dtype = _native(q, k, v, vector, u, edge, bias, edge_weight)
    targets, heads = q.shape[:2]
    edge_width = edge.shape[1] if edge is not None and rest[5] == DOT else 0
    return (
        v.new_empty(targets, heads, v.shape[2]),
        v.new_empty(targets, heads, edge_width, dtype=dtype),
        v.new_empty(targets, heads, dtype=dtype),
        v.new_empty(indices.shape[0] if rest[-1] else 0, heads, dtype=dtype),
    )


@torch.library.custom_op("graphformer::cpu_attend_backward", mutates_args=(), device_types="cpu")
def attend_backward(
    dout: Tensor,
    dz: Tensor | None,
    dweights: Tensor | None,
    lse: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    vector: Tensor | None,
    u: Tensor | None,
    edge: Tensor | None,
    bias: Tensor | None,
    edge_weight: Tensor | None,
    indptr: Tensor,
    indices: Tensor,
    edge_ids: Tensor | None,
    source_indptr: Tensor | None,
    source_targets: Tensor | None,
    source_slots: Tensor | None,
    seed: Tensor | None,
    kind: int,
    scale: float,
    slope: float,
    dropout: float,
    edge_grads: list[bool],
) -> Gradients:
    """Return the gradients of the eight differentiable inputs; an empty tensor for one not asked.

    `edge_grads` says whether those of edge, bias and edge_weight are wanted.
    """
    passes = load_passes()
    x = passes.Inputs(q, k, v, vector, u, edge, bias, edge_weight, indptr, indices, edge_ids)
    if source_indptr is None or source_targets is None or source_slots is None:
        order = passes.by_source(indptr, indices, k.shape[0])
    else:
        order = source_indptr, source_targets, source_slots
    grads = passes.backward(
        x, order, lse, dout, dz, dweights, kind, scale, slope, dropout, seed, tuple(edge_grads)
    )
    inputs = (q, k, v, vector, u, edge, bias, edge_weight)
    return tuple(g if y is None else g.to(y.dtype) for g, y in zip(grads, inputs, strict=True))


@attend_backward.register_fake
def _(
    dout: Tensor, dz: Tensor | None, dweights: Tensor | None, lse: Tensor, *rest: Any
) -> Gradients:  # fmt: skip
    q, k, v, vector, u, edge, bias, edge_weight, _, indices = rest[:10]
    per_edge = indices.shape[0], q.shape[1]
    wanted = rest[-1]
    dtype = lse.dtype

    def empty(y: Tensor | None, *shape: int) -> Tensor:
        return v.new_empty(shape, dtype=dtype if y is None else y.dtype)

    return (
        empty(q, *q.shape),
        empty(k, *k.shape),
        empty(v, *v.shape),
        empty(vector, *((0,) if vector is None else vector.shape)),
        empty(u, *((q.shape[0], q.shape[1], 0) if u is None else u.shape)),
        empty(edge, *(edge.shape if wanted[0] else (0,))),
        empty(bias, *(per_edge if wanted[1] else (0,))),
        empty(edge_weight, *(per_edge if wanted[2] else (0,))),
    )


def _native(*tensors: Tensor | None) -> torch.dtype:
    """What the kernels compute in."""
    double = any(x is not None and x.dtype == torch.float64 for x in tensors)
    return torch.float64 if double else torch.float32


def _save(ctx: Any, inputs: tuple[Any, ...], output: Outputs) -> None:
    ctx.save_for_backward(*inputs[:15], output[2])
    ctx.kind, ctx.scale, ctx.slope, ctx.dropout = inputs[15:19]
    ctx.mark_non_differentiable(output[2])
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, dout: Any, dz: Any, _: Any, dweights: Any) -> tuple[Any, ...]:
    *inputs, lse = ctx.saved_tensors
    q, v, edge, edge_weight = (inputs[i] for i in (0, 2, 5, 7))
    if dout is None:
        dout = v.new_zeros(q.shape[0], q.shape[1], v.shape[2])
    features = edge is not None and ctx.kind == DOT
    if features and dz is None:
        dz = dout.new_zeros(q.shape[0], q.shape[1], edge.shape[1])
    wanted = list(ctx.needs_input_grad[5:8])
    grads = attend_backward(
        dout, dz if features else None, dweights, lse, *inputs,
        ctx.kind, ctx.scale, ctx.slope, ctx.dropout, wanted,
    )  # fmt: skip
    results = [g if need else None for g, need in zip(grads, ctx.needs_input_grad[:8], strict=True)]
    if wanted[2] and edge_weight.shape[1] == 1:
        results[7] = grads[7].sum(1, keepdim=True)
    return *results, *(None,) * 12


def _no_double_backward(ctx: Any, *grads: Any) -> None:
    raise NotImplementedError(
        "the cpu backend has no second derivatives; use backend='reference' for them"
    )


attend.register_autograd(_backward, setup_context=_save)
attend_backward.register_autograd(_no_double_backward)
