"""Recorded attention as matrices or for some targets, and attention rollout over all blocks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from graphformer.nn.record import AttentionRecord


def dense_attention(record: AttentionRecord) -> Tensor:
    """Return the weights, mean over heads, as a matrix [M, N]; 0 where there is no edge."""
    weights = record.weights.detach().float().mean(1)
    matrix = weights.new_zeros(record.adjacency.shape)
    source, target = record.adjacency.edge_index
    return matrix.index_put((target, source), weights)


def rollout(records: Sequence[AttentionRecord]) -> Tensor:
    """Return attention rollout [N, N]: the share of each input node in each output node.

    The product over blocks of (A + I) / 2, with normalised rows.

    Args:
        records: attention of the blocks in order, N x N each.

    Raises:
        ValueError: when there are no records.

    Source: Abnar and Zuidema, 2020, "Quantifying attention flow in transformers".
    """
    flow: Tensor | None = None
    for record in records:
        attention = dense_attention(record)
        mixed = attention + torch.eye(len(attention), device=attention.device)
        mixed = mixed / mixed.sum(1, keepdim=True)
        flow = mixed if flow is None else mixed @ flow
    if flow is None:
        raise ValueError("records: got none, expected the attention of at least one block")
    return flow


def attention_from(record: AttentionRecord, share: Tensor) -> Tensor:
    """Return the weighted sum of the rows of `dense_attention`, `share @ dense_attention`, [N].

    Memory is O(E), for adjacencies whose dense matrix does not fit.

    Args:
        record: attention over E edges.
        share: weight of each target, [M].
    """
    weights = record.weights.detach().float().mean(1)
    source, target = record.adjacency.edge_index
    return weights.new_zeros(record.adjacency.shape[1]).index_add(
        0, source, weights * share[target]
    )


def rollout_from(records: Sequence[AttentionRecord], share: Tensor) -> Tensor:
    """Return the share of each input node in a mean of output nodes, `share @ rollout(records)`.

    Memory is O(E), as in `attention_from`.

    Args:
        records: attention of the blocks in order, N x N each.
        share: weight of each output node, [N].

    Returns:
        [N].
    """
    for record in reversed(records):
        target = record.adjacency.edge_index[1]
        weights = record.weights.detach().float().mean(1)
        rows = 1 + share.new_zeros(len(share)).index_add(0, target, weights)
        normalized = share / rows
        share = normalized + attention_from(record, normalized)
    return share
