"""Attention by its definition: dense logits, minus infinity for absent edges, softmax, sum."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from graphformer.adjacency import Adjacency


def attention(q, k, v, adjacency, *, scale=None, softcap=None, bias=None, edge_weight=None):
    k = k.repeat_interleave(q.shape[1] // k.shape[1], 1)
    scale = q.shape[2] ** -0.5 if scale is None else scale
    logits = scale * torch.einsum("ihd,jhd->ijh", q, k)
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    return weighted(logits, v, adjacency, bias, edge_weight)


def additive_attention(target, source, v, adjacency, *, bias=None, edge_weight=None, slope=0.2):
    logits = F.leaky_relu(target.unsqueeze(1) + source, slope)
    return weighted(logits, v, adjacency, bias, edge_weight)


def gatv2_attention(q, k, v, weight, adjacency, *, bias=None, edge_weight=None, slope=0.2):
    k = k.repeat_interleave(q.shape[1] // k.shape[1], 1)
    hidden = F.leaky_relu(q.unsqueeze(1) + k, slope)
    return weighted((hidden * weight).sum(-1), v, adjacency, bias, edge_weight)


def weighted(
    logits: Tensor,
    v: Tensor,
    adjacency: Adjacency,
    bias: Tensor | None,
    edge_weight: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The output [M, H, Dv] and the weights [E, H] of logits [M, N, H]."""
    source, target = adjacency.edge_index
    v = v.repeat_interleave(logits.shape[2] // v.shape[1], 1)

    def dense(values: Tensor) -> Tensor:
        values = values.unsqueeze(1) if values.ndim == 1 else values
        values = values.expand(-1, logits.shape[2])
        return torch.zeros_like(logits).index_put((target, source), values)

    if edge_weight is not None:
        logits = logits * dense(edge_weight)
    if bias is not None:
        logits = logits + dense(bias)
    present = torch.zeros(adjacency.shape, dtype=torch.bool).index_put(
        (target, source), torch.tensor(True)
    )
    logits = logits.masked_fill(~present.unsqueeze(-1), -torch.inf)
    alive = (logits > -torch.inf).any(1, keepdim=True)
    weights = logits.masked_fill(~alive, 0).softmax(1).masked_fill(~alive, 0)
    return torch.einsum("ijh,jhd->ihd", weights, v), weights[target, source]
