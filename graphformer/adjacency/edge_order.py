"""Orders of edges on a CPU: by target and by source, by counting sorts that numba compiles.

A counting sort takes time O(E + M + N), where torch sorts keys of 64 bits, and one compiled pass
takes the place of some twenty operators, whose dispatch is most of the time on small graphs.
"""

# mypy: disable-error-code="no-untyped-call"
from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from graphformer.adjacency.cached_property import is_tracing

HAS_DUPLICATES, IS_REORDERED, OUT_OF_RANGE = 1, 2, 4
"""Bits of the result of `_sort_by_target`."""


class Rows(NamedTuple):
    """The fields of a CSR, by target and then source."""

    indptr: Tensor
    """int32 [M + 1]."""
    indices: Tensor
    """int32 [E]."""
    edge_ids: Tensor | None
    inverse_index: Tensor | None
    has_duplicates: bool


def is_supported(edges: Tensor, sizes: tuple[int, ...]) -> bool:
    """Whether the compiled sorts apply: plain edges on a CPU, indices that fit int32, numba."""
    return (
        not torch.compiler.is_compiling()
        and edges.device.type == "cpu"
        and type(edges) is Tensor
        and not torch._C._len_torch_dispatch_stack()
        and not is_tracing()
        and max(edges.shape[-1], *sizes) < 2**31 - 1
        and _compiled() is not None
    )


def sort_by_target(edges: Tensor, shape: tuple[int, int], coalesce: bool) -> Rows | None:
    """Return edges int64 [2, E'], sources above targets, by target; None if one is out of range.

    Of duplicates the first remains with `coalesce`, else all in the order of the list.
    """
    targets, sources = shape
    columns = edges.shape[1]
    indptr = torch.empty(targets + 1, dtype=torch.int32)
    indices = torch.empty(columns, dtype=torch.int32)
    edge_ids, inverse_index = torch.empty(2, columns, dtype=torch.int64)
    compiled = _compiled()
    assert compiled is not None
    found = compiled.by_target(
        edges.contiguous().numpy(), sources, coalesce, indptr.numpy(), indices.numpy(),
        edge_ids.numpy(), inverse_index.numpy(),
    )  # fmt: skip
    if found & OUT_OF_RANGE:
        return None
    has_duplicates = bool(found & HAS_DUPLICATES)
    inverse = None
    if has_duplicates and coalesce:
        count = int(indptr[-1])
        # Copies, so that the memory of the longer arrays is freed.
        indices, edge_ids = indices[:count].clone(), edge_ids[:count].clone()
        inverse = inverse_index.clone()
    elif found & IS_REORDERED:
        edge_ids = edge_ids.clone()
    return Rows(
        indptr, indices, edge_ids if found & IS_REORDERED else None, inverse, has_duplicates
    )


def sort_by_source(
    indptr: Tensor, indices: Tensor, num_sources: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the edges of a CSR by source, then target: indptr [N + 1], targets and slots [E]."""
    starts = torch.empty(num_sources + 1, dtype=torch.int32)
    targets, slots = torch.empty_like(indices), torch.empty_like(indices)
    compiled = _compiled()
    assert compiled is not None
    arrays = (x.numpy() for x in (indptr, indices, starts, targets, slots))
    compiled.by_source(*arrays)
    return starts, targets, slots


def _sort_by_target(edges, num_sources, coalesce, indptr, indices, edge_ids, inverse):  # type: ignore[no-untyped-def]
    """Fill the arrays of `Rows`; return bits that say what was found."""
    source, target = edges[0], edges[1]
    columns, num_targets = len(source), len(indptr) - 1
    # Columns by source: count, sum up, place
    place = np.zeros(num_sources + 1, np.int64)
    indptr[:] = 0
    for e in range(columns):
        s, t = source[e], target[e]
        if s < 0 or s >= num_sources or t < 0 or t >= num_targets:
            return OUT_OF_RANGE
        place[s + 1] += 1
        indptr[t + 1] += 1
    for s in range(num_sources):
        place[s + 1] += place[s]
    for t in range(num_targets):
        indptr[t + 1] += indptr[t]
    by_source = np.empty(columns, np.int64)
    for e in range(columns):
        s = source[e]
        by_source[place[s]] = e
        place[s] += 1
    # Stable, so that sources ascend within a target, and columns within an edge
    row_end = indptr[:num_targets].copy()
    for position in range(columns):
        e = by_source[position]
        t = target[e]
        slot = row_end[t]
        row_end[t] = slot + 1
        indices[slot] = source[e]
        edge_ids[slot] = e
    duplicates = 0
    reordered = 0
    for t in range(num_targets):
        for slot in range(indptr[t], indptr[t + 1]):
            if slot > indptr[t] and indices[slot] == indices[slot - 1]:
                duplicates = HAS_DUPLICATES
            if edge_ids[slot] != slot:
                reordered = IS_REORDERED
    if not duplicates or not coalesce:
        return duplicates | reordered
    # Remaining edges are numbered by their first column: number[e] for these, -1 for others
    number = np.full(columns, -1, np.int64)
    for t in range(num_targets):
        for slot in range(indptr[t], indptr[t + 1]):
            if slot == indptr[t] or indices[slot] != indices[slot - 1]:
                number[edge_ids[slot]] = 0
    count = 0
    for e in range(columns):
        if number[e] == 0:
            number[e] = count
            count += 1
    # Move the remaining edges together
    reordered = 0
    end = 0
    begin = 0
    for t in range(num_targets):
        stop = indptr[t + 1]
        for slot in range(begin, stop):
            e, s = edge_ids[slot], indices[slot]
            if number[e] >= 0:
                indices[end] = s
                edge_ids[end] = number[e]
                if number[e] != end:
                    reordered = IS_REORDERED
                end += 1
            inverse[e] = edge_ids[end - 1]
        begin = stop
        indptr[t + 1] = end
    return HAS_DUPLICATES | reordered


def _sort_by_source(indptr, indices, starts, targets, slots):  # type: ignore[no-untyped-def]
    """Fill starts [N + 1], targets and slots [E]."""
    num_sources = len(starts) - 1
    starts[:] = 0
    for slot in range(len(indices)):
        starts[indices[slot] + 1] += 1
    for s in range(num_sources):
        starts[s + 1] += starts[s]
    place = starts[:num_sources].copy()
    for t in range(len(indptr) - 1):
        for slot in range(indptr[t], indptr[t + 1]):
            s = indices[slot]
            position = place[s]
            place[s] = position + 1
            targets[position] = t
            slots[position] = slot


class _Compiled(NamedTuple):
    by_target: Callable[..., Any]
    by_source: Callable[..., Any]


@cache
def _compiled() -> _Compiled | None:
    """The compiled sorts; None without numba, where torch sorts."""
    try:
        from graphformer.jit import cached_njit
    except (ImportError, OSError):
        return None
    return _Compiled(cached_njit(_sort_by_target), cached_njit(_sort_by_source))
