"""Rank of attention matrices by block: how far attention is from copying one vector everywhere."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from graphformer.nn.record import AttentionRecord

TOLERANCE = 1e-3
"""Singular values below this share of the largest one count as 0."""


@torch.no_grad()
def attention_ranks(record: AttentionRecord, sizes: Sequence[int]) -> Tensor:
    """Return the numerical rank of each sample's attention by its number of rows, [B, H].

    Args:
        record: attention over the nodes of a batch.
        sizes: number of nodes of each sample, in order; samples without nodes are left out.
    """
    source, target = record.adjacency.edge_index
    rows, first = [], 0
    for size in sizes:
        inside = (target >= first) & (target < first + size)
        if size:
            dense = record.weights.new_zeros(record.weights.shape[1], size, size).float()
            weights = record.weights[inside].T.float()
            dense[:, target[inside] - first, source[inside] - first] = weights
            rows.append(torch.linalg.matrix_rank(dense, rtol=TOLERANCE) / size)
        first += size
    return torch.stack(rows)
