"""The edges of `LSH` as lists of each row, on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor

from graphformer.adjacency import RowEdges
from graphformer.adjacency.content.spans import Spans, list_spans
from graphformer.patterns.content.base import head_rows
from graphformer.patterns.content.lsh_spans import Choice, Hashed, bounds


def row_edges(
    hashed: list[Hashed], sizes: tuple[int, int, int, int], choice: Choice
) -> RowEdges | None:
    """Return the edges of all samples; None where lists cannot be made, see `list_spans`.

    Args:
        hashed: the buckets of the samples of each size.
        sizes: number of rounds, query heads, key heads and nodes.
        choice: of the sources in a bucket.
    """
    num_rounds, num_heads, num_kv_heads, count = sizes
    first = torch.zeros(num_rounds, num_heads * count, dtype=torch.int64)
    stop, ordered = torch.zeros_like(first), first.new_zeros(num_rounds, num_kv_heads * count)
    for group in hashed:
        size = group.nodes.shape[1]
        queries = group.query.unflatten(2, (num_kv_heads, -1))  # [R, c, Hkv, H / Hkv, n]
        low, high, order = _spans(queries, group.key, choice)
        start = head_rows(group.nodes[:, :1], num_kv_heads, count)  # [c, Hkv, 1]
        rows = head_rows(group.nodes, num_heads, count).flatten()
        first[:, rows] = (low + start.unsqueeze(-1)).flatten(1)  # in the order of rows
        stop[:, rows] = (high + start.unsqueeze(-1)).flatten(1)
        places = (start + torch.arange(size)).flatten()
        ordered[:, places] = (order + start).flatten(1)
    listed = list_spans(
        Spans(first, stop, ordered),
        num_kv_heads * count,
        _own_keys(num_heads, num_kv_heads, count) if choice.shared else None,
    )
    if listed is None:
        return None
    return RowEdges(*listed, (count, count), num_heads, num_kv_heads)


def _spans(query: Tensor, key: Tensor, choice: Choice) -> tuple[Tensor, Tensor, Tensor]:
    """Return the sources of each target as ranks of the keys, sorted by bucket and position.

    Args:
        query: bucket of each query, int64 [..., r, n].
        key: bucket of each key, int64 [..., n].
        choice: of the sources in a bucket.

    Returns:
        The first rank [..., r, n], the rank after the last [..., r, n], and the keys [..., n].
    """
    size = key.shape[-1]
    position = torch.arange(size)
    # Numbers that are ordered by bucket, then position.
    ordered, keys = (key * size + position).sort(-1)
    borders = (torch.arange(choice.buckets + 1) * size).expand(*key.shape[:-1], -1).contiguous()
    starts = torch.searchsorted(ordered, borders)
    bucket = query.flatten(-2)
    after = torch.searchsorted(ordered, (query * size + position).flatten(-2), right=True)
    start, end = starts.gather(-1, bucket), starts.gather(-1, bucket + 1)
    low, high = bounds(after, start, end, choice.window, causal=choice.causal)
    return low.view_as(query), high.view_as(query), keys


def _own_keys(num_heads: int, num_kv_heads: int, count: int) -> Tensor:
    """Return the row of each query's own key, int64 [H N]."""
    nodes = torch.arange(num_kv_heads * count).view(num_kv_heads, 1, count)
    return nodes.expand(-1, num_heads // num_kv_heads, -1).flatten()
