"""`NearestNeighbors`: the sources with the largest logits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from graphformer.adjacency import CSR, Adjacency, HeadEdges, RowEdges
from graphformer.patterns.content.base import (
    ContentPattern,
    by_head,
    check_positive,
    groups,
    head_rows,
    wide,
)

_LOGITS = 1 << 22
"""Number of logits that are in memory at a time."""


@dataclass(frozen=True)
class NearestNeighbors(ContentPattern):
    """Every node attends to the `k` nodes of its sample with the largest products q . k, by head.

    The search is exact: it computes all products, a part of the rows at a time, and so saves memory
    and the softmax over all, but not the products. Of equal products, any may be taken.

    Args:
        k: number of sources; all of them in smaller samples.
        causal: whether nodes attend to themselves and earlier nodes only.

    Raises:
        ValueError: when k is below 1.

    Source: Gupta et al., 2021, "Memory-efficient transformers via top-k attention".
    """

    k: int
    causal: bool = False

    def __post_init__(self) -> None:
        check_positive(k=self.k)

    def select(self, q: Tensor, k: Tensor, lengths: tuple[int, ...]) -> Adjacency:
        """Return the edges of queries [N, H, D] and keys [N, Hkv, D], N x N."""
        count, num_heads = q.shape[:2]
        if not count:  # kernels that visit the edges of each head need a node
            return CSR.from_edges(torch.empty(2, 0, dtype=torch.int64, device=q.device), (0, 0))
        repeats = num_heads // k.shape[1]
        # [H N, k]: the sources of each row, -1 where there are fewer
        found = torch.full((num_heads * count, min(self.k, max(lengths))), -1, device=q.device)
        for group in groups(lengths, q.device):
            keys = wide(by_head(k, group)).repeat_interleave(repeats, dim=1)
            queries = wide(by_head(q, group))
            rows = head_rows(group.nodes, num_heads, count)
            nodes = group.nodes.unsqueeze(1).expand_as(rows)
            step = max(1, _LOGITS // (keys.shape[0] * num_heads * group.size))
            for first in range(0, group.size, step):
                part = slice(first, first + step)
                chosen, present = self._nearest(queries[:, :, part], keys, first)
                source = nodes.gather(2, chosen.flatten(2)).view_as(chosen)
                source = source.masked_fill(~present, -1).flatten(0, 2)
                found[rows[:, :, part].flatten(), : source.shape[1]] = source
        row, column = (found >= 0).nonzero(as_tuple=True)
        source, head = found[row, column], row // count
        shape = count, count
        if not RowEdges.is_supported(q):
            target = row - head * count
            return HeadEdges.from_head_edges(head, target, source, shape, num_heads)
        indptr = torch.zeros(len(found) + 1, dtype=torch.int32)
        torch.cumsum((found >= 0).sum(1, dtype=torch.int32), 0, out=indptr[1:])
        source = (source + head // repeats * count).int()
        return RowEdges(indptr, source, shape, num_heads, k.shape[1])

    def mask(self, q: Tensor, k: Tensor, first: int = 0) -> Tensor:
        """Return the sources of the targets from `first` of one sample, bool [H, n - first, n]."""
        queries = wide(q[first:]).transpose(0, 1)
        keys = wide(k).transpose(0, 1).repeat_interleave(q.shape[1] // k.shape[1], dim=0)
        chosen, present = self._nearest(queries, keys, first)
        return torch.zeros(*chosen.shape[:2], len(k), dtype=torch.bool, device=k.device).scatter(
            -1, chosen, present
        )

    def _nearest(self, q: Tensor, k: Tensor, first: int) -> tuple[Tensor, Tensor]:
        """Return the chosen positions [..., m, k] of keys [..., n, D], and which are present.

        Args:
            q: queries from position `first`, [..., m, D].
            k: keys, [..., n, D].
            first: the position of the first query.
        """
        logits = q @ k.transpose(-1, -2)
        count = min(self.k, logits.shape[-1])
        if not self.causal:
            chosen = logits.topk(count, dim=-1).indices
            return chosen, torch.ones_like(chosen, dtype=torch.bool)
        target = torch.arange(first, first + q.shape[-2], device=q.device).unsqueeze(-1)
        later = torch.arange(k.shape[-2], device=q.device) > target
        chosen = logits.masked_fill(later, -torch.inf).topk(count, dim=-1).indices
        return chosen, chosen <= target
