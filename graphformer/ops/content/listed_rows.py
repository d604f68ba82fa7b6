"""Attention over edges that are listed as rows of each head: one head over H times the nodes."""

from __future__ import annotations

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
    queries, keys, values = (x.transpose(0, 1).reshape(-1, 1, x.shape[2]) for x in (q, k, v))
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
    return out.view(heads, targets, v.shape[2]).transpose(0, 1).contiguous()


def _bias(bias: OffsetBias, adjacency: RowEdges) -> Tensor:
    """Return the bias of each slot, [E']."""
    targets, sources = bias.positions_on(adjacency)
    row, source = adjacency.targets, adjacency.sources % len(sources)
    offsets = sources[source] - targets[row % len(targets)]
    return bias.of_heads(offsets, row // len(targets))
