"""Attention within small samples where every target has every source, without lists of edges."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor
from typing_extensions import Unpack

from graphformer.adjacency import Adjacency, Complete
from graphformer.ops.common import AttentionOptions
from graphformer.ops.cpu.loading import load_complete_driver
from graphformer.ops.fused.custom_op import call, is_plain
from graphformer.ops.fused.operands import DOT, Outputs

WIDTHS = {8, 16, 32}
"""Head widths of these kernels, where the values have that of the keys; wider ones gain nothing."""
LARGEST = 128
"""Most sources of a sample: its keys and values then stay in the fastest caches."""
MOST_PAIRS = LARGEST**2
"""Of a sample, which is one piece of work for each head."""


class Samples(NamedTuple):
    """The borders of the samples among the nodes, int64 [B + 1] each."""

    targets: Tensor
    sources: Tensor
    number: int
    """B."""
    largest: int
    """Sources of the largest sample, rounded up to a multiple of 16."""


def small_samples(
    q: Tensor, k: Tensor, v: Tensor, adjacency: Adjacency, options: AttentionOptions
) -> Samples | None:
    """Return the samples of a call that these kernels compute; None for other calls."""
    has_values = options["bias"] is not None or options["edge_weight"] is not None
    if not isinstance(adjacency, Complete) or has_values:
        return None
    if options["dropout"] or options["return_weights"]:
        return None
    if q.shape[2] not in WIDTHS or v.shape[2] != q.shape[2] or not is_plain((q, k, v)):
        return None
    return _samples(adjacency.blocks)


@lru_cache(maxsize=256)
def _samples(blocks: tuple[tuple[int, int], ...]) -> Samples | None:
    largest = max((sources for _, sources in blocks), default=0)
    pairs = max((targets * sources for targets, sources in blocks), default=0)
    if not pairs or largest > LARGEST or pairs > MOST_PAIRS:
        return None
    targets, sources = (list(accumulate(sizes, initial=0)) for sizes in zip(*blocks, strict=True))
    borders = torch.tensor(targets), torch.tensor(sources)
    return Samples(*borders, len(blocks), -(-largest // 16) * 16)


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
