"""Recorded attention as matrices or from some nodes alone, and what all blocks attend to."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from graphformer.nn.record import AttentionRecord


def dense_attention(record: AttentionRecord) -> Tensor:
    """The recorded weights, mean over heads, as a matrix [M, N]; 0 where there is no edge."""
    weights = record.weights.detach().float().mean(1)
    matrix = weights.new_zeros(record.adjacency.shape)
    source, target = record.adjacency.edge_index
    return matrix.index_put((target, source), weights)


def rollout(records: Sequence[AttentionRecord]) -> Tensor:
    """How much of each first node is in each last one, [N, N], if attention and residuals mix them.

    The product over blocks of (A + I) / 2, rows normalised.

    Args:
        records: of the blocks in order, N x N each.

    Source: Abnar and Zuidema, 2020, "Quantifying attention flow in transformers".
    """
    flow: Tensor | None = None
    for record in records:
        attention = dense_attention(record)
        mixed = attention + torch.eye(len(attention), device=attention.device)
        mixed = mixed / mixed.sum(1, keepdim=True)
        flow = mixed if flow is None else mixed @ flow
    if flow is None:
        raise ValueError("records must hold at least one attention, got none")
    return flow


def attention_from(record: AttentionRecord, share: Tensor) -> Tensor:
    """What some nodes attend to, [N]: the rows of `dense_attention`, weighed and added up.

    Takes memory for the edges alone, where the matrix of a large image would not fit.

    Args:
        record: the attention, over E edges.
        share: weight of each target, [M].
    """
    weights = record.weights.detach().float().mean(1)
    source, target = record.adjacency.edge_index
    return weights.new_zeros(record.adjacency.shape[1]).index_add(
        0, source, weights * share[target]
    )


def rollout_from(records: Sequence[AttentionRecord], share: Tensor) -> Tensor:
    """How much of each first node is in some last ones, [N]: `share @ rollout(records)`.

    Takes memory for the edges alone, as `attention_from`.

    Args:
        records: of the blocks in order, N x N each.
        share: weight of each last node, [N].
    """
    for record in reversed(records):
        target = record.adjacency.edge_index[1]
        weights = record.weights.detach().float().mean(1)
        rows = 1 + share.new_zeros(len(share)).index_add(0, target, weights)
        own = share / rows
        share = own + attention_from(record, own)
    return share
