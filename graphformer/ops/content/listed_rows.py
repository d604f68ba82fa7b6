"""Attention over edges that are listed as rows of each head: one head over H times the nodes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphformer.adjacency import RowEdges
from graphformer.ops.cpu import attend
from graphformer.ops.fused.operands import DOT, Inputs, Settings
from graphformer.ops.offset_bias import OffsetBias


@torch.compiler.disable(reason="edges made from content have shapes that depend on data")
def row_attention(
    q: Tensor, k: Tensor, v: Tensor, adjacency: RowEdges, *, scale: float,
    dropout: float = 0.0, bias: OffsetBias | None = None,
) -> Tensor:  # fmt: skip
    """Return softmax(scale q k^T + b) v over the edges of each head, [M, H, Dv], on a CPU.

    Args:
        q: queries, [M, H, D].
        k: keys, [N, Hkv, D].
        v: values, [N, Hkv, Dv].
        adjacency: M targets by N sources.
        scale: factor of the logits.
        dropout: probability of dropping an attention weight.
        bias: b, added to the logits.
    """
    targets, heads = q.shape[:2]
    by_source: tuple[Tensor | None, ...] = (None, None, None)
    if torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v)):
        by_source = tuple(adjacency.by_source)
    rows = _places(adjacency.row_ids, targets, heads)
    own_keys = _places(adjacency.source_ids, k.shape[0], k.shape[1])
    queries, keys, values = (
        _ordered(x, places) for x, places in ((q, rows), (k, own_keys), (v, own_keys))
    )
    inputs = Inputs(
        queries, keys, values,
        vector=None, u=None, edge=None, edge_weight=None,
        bias=None if bias is None else _bias(bias, adjacency).unsqueeze(1),
        indptr=adjacency.indptr, indices=adjacency.sources, edge_ids=None,
        source_indptr=by_source[0], source_targets=by_source[1], source_slots=by_source[2],
        seed=torch.randint(2**63 - 1, ()) if dropout else None,
        positions=torch.arange(len(adjacency.sources), dtype=torch.int32),
    )  # fmt: skip
    out, _, _, _ = attend(*inputs, *Settings(DOT, scale, 0.0, dropout), False)
    if rows is None:
        return out.view(heads, targets, v.shape[2]).transpose(0, 1).contiguous()
    return _Permuted.apply(out[:, 0], *rows[::-1]).view(targets, heads, v.shape[2])


def _places(ids: Tensor | None, count: int, heads: int) -> tuple[Tensor, Tensor] | None:
    """Return the places i H + h of the numbers h N + i of rows, and the row of each place."""
    if ids is None:
        return None
    head = ids // count
    places = (ids - head * count) * heads + head
    rows = torch.empty_like(places)
    rows[places] = torch.arange(len(places))
    return places, rows


def _ordered(x: Tensor, places: tuple[Tensor, Tensor] | None) -> Tensor:
    """Return x [N, H, D] as rows [H N, 1, D], by head or in the order of places."""
    if places is None:
        return x.transpose(0, 1).reshape(-1, 1, x.shape[2])
    ordered: Tensor = _Permuted.apply(x.reshape(-1, x.shape[2]), *places)
    return ordered.unsqueeze(1)


class _Permuted(torch.autograd.Function):
    """x[order]; the gradient is gathered by the inverse order, where torch would add rows up."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(order, inverse)
        return x.index_select(0, order)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        order, inverse = ctx.saved_tensors
        return _Permuted.apply(grad, inverse, order), None, None


def _bias(bias: OffsetBias, adjacency: RowEdges) -> Tensor:
    """Return the bias of each slot, [E']."""
    targets, sources = bias.positions_on(adjacency)
    row, source = adjacency.targets, adjacency.source_numbers % len(sources)
    offsets = sources[source] - targets[row % len(targets)]
    return bias.of_heads(offsets, row // len(targets))
