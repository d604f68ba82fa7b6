"""What the fused backends share: their passes as torch operators, and the calls of these.

A backend supplies a module of passes with `Inputs`, `Settings`, `forward` and `backward`; torch's
autograd, `torch.compile`, `torch.export` and autocast see ordinary operators. They are opaque to
the compiler on purpose: which kernels run depends on the degrees.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from graphformer.adjacency import Adjacency

DOT, ADDITIVE, GATV2 = range(3)
"""Kinds of scores: scale * q.k; leaky_relu(q + k) of width 1; vector . leaky_relu(q + k)."""

Result = tuple[Tensor, Tensor | None]
Outputs = tuple[Tensor, Tensor, Tensor, Tensor]
Gradients = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


class Inputs(NamedTuple):
    """What both passes read; fields not in use are None. Letters as in the package."""

    q: Tensor
    """Queries [M, H, D]; target scores for additive scores, [M, H] or [M, H, 1] by backend."""
    k: Tensor
    """Keys [N, Hkv, D]; source scores for additive scores."""
    v: Tensor
    """Values [N, Hkv, Dv]."""
    vector: Tensor | None
    """The weight of GATv2's scores, [H, D]."""
    u: Tensor | None
    """Queries of the edge features, [M, H, de]."""
    edge: Tensor | None
    """What edges carry, in the caller's order: features [E, de] for dot products; a score [E, H]
    or a key [E, H, D], added inside the LeakyReLU, for the two additive kinds."""
    bias: Tensor | None
    edge_weight: Tensor | None
    indptr: Tensor
    indices: Tensor
    edge_ids: Tensor | None


class Settings(NamedTuple):
    """The numbers of a call."""

    kind: int
    scale: float
    slope: float
    dropout: float


def make_operator(
    backend: str, load: Callable[[], ModuleType], *, device_types: str | None = None
) -> Callable[..., Outputs]:
    """Register `graphformer::{backend}_attend` and its backward, and return the first.

    Args:
        backend: its name.
        load: imports the module of passes, on the first call.
        device_types: where it runs; anywhere if None.
    """

    @torch.library.custom_op(
        f"graphformer::{backend}_attend", mutates_args=(), device_types=device_types
    )
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
        """Return (out, sum of weighted edge features, log-sum-exp, weights).

        The by-source order is for the backward pass, which makes its own where none is given.
        """
        x = Inputs(q, k, v, vector, u, edge, bias, edge_weight, indptr, indices, edge_ids)
        settings = Settings(kind, scale, slope, dropout)
        out, z, lse, weights = load().forward(x, settings, seed, return_weights)
        return out.to(v.dtype), z, lse, weights

    @torch.library.custom_op(
        f"graphformer::{backend}_attend_backward", mutates_args=(), device_types=device_types
    )
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
        kind: int,
        scale: float,
        slope: float,
        dropout: float,
        edge_grads: list[bool],
    ) -> Gradients:
        """Return the gradients of the eight differentiable inputs, empty for one not asked.

        `edge_grads` says whether those of edge, bias and edge_weight are wanted.
        """
        inputs = (q, k, v, vector, u, edge, bias, edge_weight)
        x = Inputs(*inputs, indptr, indices, edge_ids)
        order = (source_indptr, source_targets, source_slots)
        grads = load().backward(
            x, Settings(kind, scale, slope, dropout), seed,
            None if source_indptr is None else order,
            out, lse, dout, dz, dweights, tuple(edge_grads),
        )  # fmt: skip
        dtypes = (lse.dtype if y is None else y.dtype for y in inputs)
        return tuple(g.to(dtype) for g, dtype in zip(grads, dtypes, strict=True))

    def backward(ctx: Any, dout: Any, dz: Any, _: Any, dweights: Any) -> tuple[Any, ...]:
        *inputs, out, lse = ctx.saved_tensors
        u, edge_weight = inputs[4], inputs[7]
        dout = torch.zeros_like(out) if dout is None else dout
        if u is not None and dz is None:
            dz = torch.zeros_like(u, dtype=lse.dtype)
        wanted = list(ctx.needs_input_grad[5:8])
        grads = attend_backward(
            dout, dz if u is not None else None, dweights, out, lse, *inputs, *ctx.settings, wanted
        )
        needed = ctx.needs_input_grad[:8]
        results = [g if need else None for g, need in zip(grads, needed, strict=True)]
        if wanted[2] and edge_weight.shape[1] == 1:
            results[7] = grads[7].sum(1, keepdim=True)
        return *results, *(None,) * 12

    def no_double_backward(ctx: Any, *grads: Any) -> None:
        raise NotImplementedError(
            f"the {backend} backend has no second derivatives; use backend='reference' for them"
        )

    attend.register_fake(_fake)
    attend_backward.register_fake(_fake_backward)
    attend.register_autograd(backward, setup_context=_save)
    attend_backward.register_autograd(no_double_backward)
    return attend


def call(
    attend: Callable[..., Outputs],
    q: Tensor,
    k: Tensor,
    v: Tensor,
    adjacency: Adjacency,
    *,
    kind: int,
    vector: Tensor | None = None,
    u: Tensor | None = None,
    edge: Tensor | None = None,
    scale: float = 1.0,
    slope: float = 0.0,
    bias: Tensor | None,
    edge_weight: Tensor | None,
    dropout: float,
    seed: Tensor | None,
    return_weights: bool,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Call an operator on an adjacency; return out, the sum of edge features and the weights."""
    csr = adjacency.to_csr()
    inputs = (q, k, v, vector, u, edge, bias, edge_weight)
    learning = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs)
    # A trace may have made this CSR, and then cannot make more of it; the backward pass does.
    ready = not torch.compiler.is_compiling() or "by_source" in csr.__dict__
    by_source = csr.by_source if learning and ready else (None, None, None)
    out, z, _, weights = attend(
        *inputs, csr.indptr, csr.indices, csr.edge_ids, *by_source, seed,
        kind, scale, slope, dropout, return_weights,
    )  # fmt: skip
    return out, z, weights.to(v.dtype) if return_weights else None


def call_with_features(
    attend: Callable[..., Outputs],
    q: Tensor,
    k: Tensor,
    v: Tensor,
    edge_attr: Tensor,
    key_map: Tensor,
    value_map: Tensor,
    adjacency: Adjacency,
    **options: Any,
) -> Result:
    """Attention with keys k_j + key_map e_ij and values v_j + value_map e_ij.

    For edge_attr [E, de] in edge order, key_map [H, D, de] and value_map [H, Dv, de]. The mapped
    features are never made: q.(k + W e) = q.k + (W^T q).e, sum a (v + W e) = sum a v + W sum a e.
    """
    u = torch.einsum("mhd,hde->mhe", q, key_map)
    out, z, weights = call(attend, q, k, v, adjacency, kind=DOT, u=u, edge=edge_attr, **options)
    return out + torch.einsum("mhe,hde->mhd", z, value_map.to(z.dtype)).to(out.dtype), weights


def _fake(
    q: Tensor, k: Tensor, v: Tensor, vector: Tensor | None, u: Tensor | None,
    edge: Tensor | None, bias: Tensor | None, edge_weight: Tensor | None, indptr: Tensor,
    indices: Tensor, *rest: Any,
) -> Outputs:  # fmt: skip
    dtype = _native(q, k, v, vector, u, edge, bias, edge_weight)
    targets, heads = q.shape[:2]
    return (
        v.new_empty(targets, heads, v.shape[2]),
        v.new_empty(targets, heads, 0 if u is None else u.shape[2], dtype=dtype),
        v.new_empty(targets, heads, dtype=dtype),
        v.new_empty(indices.shape[0] if rest[-1] else 0, heads, dtype=dtype),
    )


def _fake_backward(
    dout: Tensor, dz: Tensor | None, dweights: Tensor | None, out: Tensor, lse: Tensor, *rest: Any
) -> Gradients:
    q, k, v, vector, u, edge, bias, edge_weight, _, indices = rest[:10]
    per_edge = indices.shape[0], q.shape[1]
    wanted = rest[-1]

    def empty(y: Tensor | None, *shape: int) -> Tensor:
        return v.new_empty(shape, dtype=lse.dtype if y is None else y.dtype)

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
    ctx.save_for_backward(*inputs[:15], output[0], output[2])
    ctx.settings = inputs[15:19]
    ctx.mark_non_differentiable(output[2])
    ctx.set_materialize_grads(False)
