"""Lists of the sources that several orders of them give, each as a span; compiled by numba."""

# mypy: disable-error-code="no-untyped-call"
from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

MOST_EDGES = 1 << 27
"""Lists of more edges, half a gigabyte, are not made."""


class Spans(NamedTuple):
    """The sources of each row: spans of one or several orders of the sources."""

    first: Tensor
    """The place of the first source of each row in each order, int64 [R, rows]."""
    stop: Tensor
    """The place after the last source, int64 [R, rows]."""
    ordered: Tensor
    """The sources of each order, int64 [R, sources]."""


def list_spans(
    spans: Spans, num_sources: int, itself: Tensor | None
) -> tuple[Tensor, Tensor] | None:
    """Return indptr [rows + 1] and the sources [E] of each row, int32, each source once.

    Args:
        spans: the sources of each row.
        num_sources: number of sources.
        itself: the source of each row that it has only if it has no other, int64 [rows]; None if
            there is none.

    Returns:
        None where more than `MOST_EDGES` edges would be listed.
    """
    capacity = int((spans.stop - spans.first).sum())
    if max(capacity, num_sources) > MOST_EDGES:
        return None
    rows = spans.first.shape[1]
    indptr = torch.zeros(rows + 1, dtype=torch.int32)
    sources = torch.empty(capacity, dtype=torch.int32)
    last = torch.full((num_sources,), -1, dtype=torch.int32)
    itself = torch.empty(0, dtype=torch.int64) if itself is None else itself
    arrays = (*(x.contiguous() for x in spans), itself, last, indptr, sources)
    count = _compiled()(*(x.numpy() for x in arrays))
    return indptr, sources if count == capacity else sources[:count].clone()


def _list_spans(first, stop, ordered, itself, last, indptr, sources):  # type: ignore[no-untyped-def]
    """Fill indptr and sources; return the number of edges."""
    end = 0
    for row in range(first.shape[1]):
        begin = end
        for r in range(first.shape[0]):
            for place in range(first[r, row], stop[r, row]):
                source = ordered[r, place]
                # last[s] is the last row that has source s
                if last[source] != row:
                    last[source] = row
                    sources[end] = source
                    end += 1
        if len(itself) and end > begin + 1 and last[itself[row]] == row:
            # Remove the node itself from several sources
            slot = begin
            while sources[slot] != itself[row]:
                slot += 1
            for later in range(slot + 1, end):
                sources[later - 1] = sources[later]
            end -= 1
        indptr[row + 1] = end
    return end


@cache
def _compiled() -> Callable[..., Any]:
    """The compiled listing; numba is loaded on its first call."""
    from graphformer.jit import cached_njit

    compiled: Callable[..., Any] = cached_njit(_list_spans)
    return compiled
