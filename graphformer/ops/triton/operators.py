"""The passes as torch operators: autograd, `torch.compile` and autocast see ordinary ones.

They are opaque to the compiler on purpose: which programs run depends on the degrees.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

Outputs = tuple[Tensor, Tensor, Tensor, Tensor]
Gradients = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def load_passes() -> ModuleType:
    """The module that runs kernels; ImportError if Triton does not load."""
    try:
        from graphformer.ops.triton import passes
    except ImportError as error:
        raise ImportError(
            f"the triton backend needs triton, which does not load ({error}); install it with "
            "`pip install triton`, or choose backend='scatter'"
        ) from error
    return passes


@torch.library.custom_op("graphformer::triton_attend", mutates_args=())
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
    rectified: bool,
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
    settings = passes.Settings(rectified, scale, slope, dropout)
    return passes.forward(x, settings, seed, return_weights)


@attend.register_fake
def _(
    q: Tensor, k: Tensor, v: Tensor, vector: Tensor | None, u: Tensor | None,
    edge: Tensor | None, bias: Tensor | None, edge_weight: Tensor | None, indptr: Tensor,
    indices: Tensor, *rest: Any,
) -> Outputs:  # fmt: skip
    targets, heads = q.shape[:2]
    features = 0 if u is None else u.shape[2]
    wide = torch.float32
    return (
        v.new_empty(targets, heads, v.shape[2]),
        v.new_empty(targets, heads, features, dtype=wide),
        v.new_empty(targets, heads, dtype=wide),
        v.new_empty(indices.shape[0] if rest[-1] else 0, heads, dtype=wide),
    )


@torch.library.custom_op("graphformer::triton_attend_backward", mutates_args=())
def attend_backward(
    dout: Tensor,
    dz: Tensor | None,
    dweights: Tensor | None,
    out: Tensor,
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
    rectified: bool,
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
    settings = passes.Settings(rectified, scale, slope, dropout)
    order = None
    if source_indptr is not None:
        order = source_indptr, source_targets, source_slots
    grads = passes.backward(
        x, settings, seed, order, out, lse, dout, dz, dweights, tuple(edge_grads)
    )
    inputs = (q, k, v, vector, u, edge, bias, edge_weight)
    return tuple(g if y is None else g.to(y.dtype) for g, y in zip(grads, inputs, strict=True))


@attend_backward.register_fake
def _(
    dout: Tensor, dz: Tensor | None, dweights: Tensor | None, out: Tensor, lse: Tensor, *rest: Any
) -> Gradients:  # fmt: skip
    q, k, v, vector, u, edge, bias, edge_weight, _, indices = rest[:10]
    per_edge = indices.shape[0], q.shape[1]
    wanted = rest[-1]

    def empty(y: Tensor | None, *shape: int) -> Tensor:
        return v.new_empty(shape, dtype=v.dtype if y is None else y.dtype)

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


def _save(ctx: Any, inputs: tuple[Any, ...], output: Outputs) -> None:
    ctx.save_for_backward(*inputs[:15], output[0], output[2])
    ctx.rectified, ctx.scale, ctx.slope, ctx.dropout = inputs[15:19]
    ctx.mark_non_differentiable(output[2])
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, dout: Any, dz: Any, _: Any, dweights: Any) -> tuple[Any, ...]:
    *inputs, out, lse = ctx.saved_tensors
    u, edge_weight = inputs[4], inputs[7]
    dout = torch.zeros_like(out) if dout is None else dout
    if u is not None and dz is None:
        dz = torch.zeros_like(u, dtype=torch.float32)
    wanted = list(ctx.needs_input_grad[5:8])
    grads = attend_backward(
        dout, dz if u is not None else None, dweights, out, lse, *inputs,
        ctx.rectified, ctx.scale, ctx.slope, ctx.dropout, wanted,
    )  # fmt: skip
    results = [g if need else None for g, need in zip(grads, ctx.needs_input_grad[:8], strict=True)]
    if wanted[2] and edge_weight.shape[1] == 1:
        results[7] = grads[7].sum(1, keepdim=True)
    return *results, *(None,) * 12


def _no_double_backward(ctx: Any, *grads: Any) -> None:
    raise NotImplementedError(
        "the triton backend has no second derivatives; use backend='reference' for them"
    )


attend.register_autograd(_backward, setup_context=_save)
attend_backward.register_autograd(_no_double_backward)
