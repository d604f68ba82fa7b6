"""Attention within small samples where every target has every source, without lists of edges."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Unpack

from graphformer.adjacency import Adjacency
from graphformer.ops.common import AttentionOptions
from graphformer.ops.cpu.loading import load_complete_driver
from graphformer.ops.cpu.samples import Samples
from graphformer.ops.fused.custom_op import call, is_plain
from graphformer.ops.fused.operands import DOT, Outputs


def complete_attention(
    attend: Callable[..., Outputs],
    q: Tensor,
    k: Tensor,
    v: Tensor,
    adjacency: Adjacency,
    samples: Samples,
    *,
    scale: float,
    **options: Unpack[AttentionOptions],
) -> Tensor:
    """Return the output [M, H, Dv].

    Args:
        attend: the operator on lists of edges, which has second derivatives.
        q, k, v, adjacency, scale, options: of the call.
        samples: those of `small_samples`.
    """

    def on_edges(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return call(attend, q, k, v, adjacency, kind=DOT, scale=scale, **options)[0]

    if torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad):
        out: Tensor = _Attend.apply(q, k, v, samples, scale, on_edges)
        return out
    return _forward(q, k, v, samples, scale)[0]


def _forward(
    q: Tensor, k: Tensor, v: Tensor, samples: Samples, scale: float
) -> tuple[Tensor, Tensor]:
    out, lse = load_complete_driver().forward(q, k, v, samples, scale)
    return out.to(v.dtype), lse


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        samples: Samples,
        scale: float,
        on_edges: Callable[[Tensor, Tensor, Tensor], Tensor],
    ) -> Tensor:
        out, lse = _forward(q, k, v, samples, scale)
        ctx.save_for_backward(q, k, v, lse)
        ctx.samples, ctx.scale, ctx.on_edges = samples, scale, on_edges
        return out

    @staticmethod
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, lse = ctx.saved_tensors
        if torch.is_grad_enabled() or not is_plain((dout, q, k, v)):
            needed = ctx.needs_input_grad[:3]
            found = _differentiable_gradients(ctx.on_edges, (q, k, v), dout, needed)
            return *found, None, None, None
        grads = load_complete_driver().backward(q, k, v, ctx.samples, ctx.scale, lse, dout)
        dq, dk, dv = (g.to(x.dtype) for g, x in zip(grads, (q, k, v), strict=True))
        return dq, dk, dv, None, None, None


def _differentiable_gradients(
    attention: Callable[[Tensor, Tensor, Tensor], Tensor],
    inputs: Sequence[Tensor],
    dout: Tensor,
    needed: Sequence[bool],
) -> list[Tensor | None]:
    """Return the gradients of inputs with their own derivatives; None for those not needed."""
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        out = attention(*inputs)
    differentiated = [x for x, need in zip(inputs, needed, strict=True) if need]
    found = iter(torch.autograd.grad(out, differentiated, dout, create_graph=create_graph))
    return [next(found) if need else None for need in needed]
