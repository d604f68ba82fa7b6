"""Second derivatives of the fused operators, from the definition in plain torch.

Kernels have no derivatives of their backward pass. Where these are needed, the backward pass is
computed again by autograd, with memory O(E H D).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from graphformer.adjacency import CSR
from graphformer.ops.common import per_head, upcast
from graphformer.ops.fused.operands import ADDITIVE, DOT, Cotangents, Gradients, Inputs, Settings
from graphformer.ops.reference import by_slot, weighted_sum


def attend(x: Inputs, settings: Settings) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return out [M, H, Dv], z [M, H, F] (None without features) and weights [E, H].

    Weights are None for edges by head, which do not return them.
    """
    edge_ids = x.edge_ids
    if x.positions is not None:
        edge_ids = x.positions if edge_ids is None else edge_ids[x.positions]
    csr = CSR(x.indptr, x.indices, (len(x.q), len(x.k)), edge_ids)
    heads = x.q.shape[1]
    (values,) = upcast(per_head(x.v, heads)[csr.indices])
    if x.u is not None and x.edge is not None:  # z = sum_j p_ij e_ij, as more columns of values
        features = by_slot(x.edge, csr).unsqueeze(1).expand(-1, heads, -1)
        values = torch.cat([values, features.to(values.dtype)], dim=-1)
    out, weights = weighted_sum(
        _logits(x, settings, csr),
        values,
        csr,
        values.dtype,
        bias=x.bias,
        edge_weight=x.edge_weight,
        dropout=settings.dropout,
        seed=x.seed,
        return_weights=x.positions is None,
        positions=x.positions,
    )
    out, z = out.split([x.v.shape[2], values.shape[2] - x.v.shape[2]], dim=-1)
    return out.to(x.v.dtype), None if x.u is None else z, weights


def _logits(x: Inputs, settings: Settings, csr: CSR) -> Tensor:
    """The logits [E, H] by slot, before edge weight and bias."""
    q, k = upcast(x.q, per_head(x.k, x.q.shape[1]))
    q, k = q[csr.target], k[csr.indices]
    edge = None if x.edge is None else by_slot(x.edge, csr)
    if settings.kind == DOT:
        scores = (q * k).sum(-1)
        if x.u is not None and edge is not None:
            scores = scores + torch.einsum("ehf,ef->eh", x.u[csr.target], edge)
        return settings.scale * scores
    hidden = F.leaky_relu(q + k if edge is None else q + k + edge, settings.slope)
    if settings.kind == ADDITIVE:  # [E, H] or, from Triton, [E, H, 1]
        return hidden.flatten(1)
    assert x.vector is not None
    return (hidden * x.vector).sum(-1)


def double_backward(
    x: Inputs, settings: Settings, cotangents: Cotangents, grads: Sequence[Tensor | None]
) -> dict[str, Tensor | None]:
    """Return the gradients of the backward pass's arguments, by field of `Cotangents` or `Inputs`.

    Args:
        x, settings: of the call.
        cotangents: the gradients of its outputs.
        grads: the gradients of the backward pass's results, in the order of `Gradients`.
    """
    keep_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        variables = {name: _variable(value) for name, value in _differentiable(x).items()}
        out, z, p = attend(x._replace(**variables), settings)
        pairs = {"dout": (out, cotangents.dout), "dz": (z, cotangents.dz)}
        pairs["dweights"] = (p, cotangents.dweights)
        outputs, weights = [], {}
        for name, (output, weight) in pairs.items():
            if output is not None and weight is not None:
                outputs.append(output)
                weights[name] = _variable(weight)
        # The backward pass: gradients of <weights, outputs>
        first = torch.autograd.grad(
            outputs, list(variables.values()), list(weights.values()),
            create_graph=True, allow_unused=True,
        )  # fmt: skip
        # Its derivative: gradients of <grads, first>
        gradients = dict(zip(variables, first, strict=True))
        products = [
            (value, grad.to(value.dtype))
            for value, grad in zip(map(gradients.get, Gradients._fields), grads, strict=True)
            if value is not None and grad is not None
        ]
        arguments = weights | variables
        second = torch.autograd.grad(
            [value for value, _ in products], list(arguments.values()),
            [grad for _, grad in products], create_graph=keep_graph, allow_unused=True,
        )  # fmt: skip
    found: dict[str, Tensor | None] = dict(zip(arguments, second, strict=True))
    gradient = found.get("edge_weight")
    if gradient is not None and x.edge_weight is not None:
        found["edge_weight"] = gradient.sum_to_size(x.edge_weight.shape)
    return found


def _differentiable(x: Inputs) -> dict[str, Tensor]:
    """The inputs that have gradients; the edge weight as [E, H], like its gradient."""
    inputs = {name: value for name, value in x._asdict().items() if name in Gradients._fields}
    if x.edge_weight is not None:
        inputs["edge_weight"] = x.edge_weight.expand(-1, x.q.shape[1])
    return {name: value for name, value in inputs.items() if value is not None}


def _variable(x: Tensor) -> Tensor:
    """x as a variable of its own, which keeps its history for derivatives of higher order."""
    return x.view_as(x) if x.requires_grad else x.detach().requires_grad_()
