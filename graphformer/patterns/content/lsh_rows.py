"""The edges of `LSH` as lists of each row, on a CPU."""

# mypy: disable-error-code="no-untyped-call"
from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphformer.adjacency import RowEdges
from graphformer.adjacency.content.spans import Spans, list_spans
from graphformer.patterns.content.lsh_spans import Buckets, Choice


def row_edges(buckets: Buckets, choice: Choice) -> RowEdges | None:
    """Return the edges of all samples; None where lists cannot be made, see `list_spans`.

    The rows and their sources are in the order of the buckets of the first round, so that rows that
    follow one another have the same sources, which are then in the cache.

    Args:
        buckets: of the queries and keys.
        choice: of the sources in a bucket.
    """
    (num_rounds, num_heads, count), num_kv_heads = buckets.query.shape, buckets.key.shape[1]
    rows = num_heads * count
    row_ids = torch.empty(rows, dtype=torch.int64)
    source_ids = torch.empty(num_kv_heads * count, dtype=torch.int64)
    spans = Spans(
        torch.empty(num_rounds, rows, dtype=torch.int64),
        torch.empty(num_rounds, rows, dtype=torch.int64),
        torch.empty(num_rounds, len(source_ids), dtype=torch.int64),
    )
    arrays = (
        buckets.query.contiguous(),
        buckets.key.contiguous(),
        torch.tensor(buckets.lengths, dtype=torch.int64),
    )
    outputs = (row_ids, source_ids, *spans)
    _compiled()(
        *(x.numpy() for x in arrays), choice.buckets, choice.window, choice.causal,
        *(x.numpy() for x in outputs),
    )  # fmt: skip
    itself = None
    if choice.shared:
        itself = _own_keys(row_ids, source_ids, count, num_heads // num_kv_heads)
    listed = list_spans(spans, len(source_ids), itself)
    if listed is None:
        return None
    return RowEdges(*listed, (count, count), num_heads, num_kv_heads, row_ids, source_ids)


def _own_keys(row_ids: Tensor, source_ids: Tensor, count: int, repeats: int) -> Tensor:
    """Return the place of the key of each row's own node, int64 [H N]."""
    place = torch.empty_like(source_ids)
    place[source_ids] = torch.arange(len(source_ids))
    head = row_ids // max(count, 1)
    return place[head // repeats * count + row_ids - head * count]


def _sort_and_span(  # type: ignore[no-untyped-def]
    query, key, lengths, buckets, window, causal, row_ids, source_ids, first, stop, ordered
):
    """Fill the last five arrays, see `RowEdges` and `Spans`, for buckets of queries and keys.

    The places of a sample and key head follow one another, as do their rows.
    """
    rounds, heads, count = query.shape
    kv_heads = key.shape[1]
    repeats = heads // kv_heads
    begin = np.empty((rounds, buckets + 1), np.int64)  # first rank of each bucket
    used = np.empty((rounds, buckets), np.int64)  # keys of each bucket so far
    row_begin = np.empty(buckets + 1, np.int64)
    place = np.empty(count, np.int64)
    for g in range(kv_heads):
        low = 0
        for size in lengths:
            high, base = low + size, g * count + low
            # Sort the keys by bucket, then position, by counting
            begin[:] = 0
            used[:] = 0
            for r in range(rounds):
                for i in range(low, high):
                    begin[r, key[r, g, i] + 1] += 1
                for b in range(buckets):
                    begin[r, b + 1] += begin[r, b]
                for i in range(low, high):
                    b = key[r, g, i]
                    rank = begin[r, b] + used[r, b]
                    used[r, b] += 1
                    if r == 0:
                        place[i] = base + rank
                        source_ids[base + rank] = g * count + i
                    ordered[r, base + rank] = place[i]
            # Sort the rows by the bucket of their query in the first round
            row_begin[:] = 0
            for h in range(g * repeats, (g + 1) * repeats):
                for i in range(low, high):
                    row_begin[query[0, h, i] + 1] += 1
            for b in range(buckets):
                row_begin[b + 1] += row_begin[b]
            used[:] = 0
            for i in range(low, high):
                for r in range(rounds):
                    used[r, key[r, g, i]] += 1
                for h in range(g * repeats, (g + 1) * repeats):
                    row = repeats * base + row_begin[query[0, h, i]]
                    row_begin[query[0, h, i]] += 1
                    row_ids[row] = h * count + i
                    for r in range(rounds):
                        b = query[r, h, i]
                        start, end = begin[r, b], begin[r, b + 1]
                        after = start + used[r, b]  # of the keys up to the node
                        # The bounds that `lsh_spans.bounds` gives
                        if causal:
                            span_start, end = max(after - window, start), after
                        else:
                            span_start = max(after - (window + 1) // 2, start)
                            end = min(span_start + window, end)
                            span_start = max(end - window, start)
                        first[r, row] = base + span_start
                        stop[r, row] = base + end
            low = high


@cache
def _compiled() -> Callable[..., Any]:
    """The compiled sort; numba is loaded on its first call."""
    from graphformer.jit import cached_njit

    compiled: Callable[..., Any] = cached_njit(_sort_and_span)
    return compiled
