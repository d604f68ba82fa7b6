"""Schedules of launches: rows binned by degree, and rows with many edges split into parts.

A schedule belongs to the indices of an adjacency. It is computed once per index tensor, with the
only synchronisations with the device in this backend, and cached by the tensor's memory: the cache
is outside of any trace, and a CUDA graph replays without it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar, cast

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

CHUNK = 512
"""Rows with more edges than this are split into parts of that many."""
LONG = 32
"""Rows with more edges than this have more lanes, so that fewer of them share a program.

A power of two, because the bins are.
"""

SourceOrder = tuple[Tensor, Tensor, Tensor]
_T = TypeVar("_T")


class RowParts(NamedTuple):
    """The items of one launch: whole rows, or parts of rows that are split."""

    rows: Tensor
    """The row of each item."""
    begins: Tensor | None
    """The first slot of each item, a part of its row; None where items are whole rows."""
    long: bool
    """Whether the items have many edges."""


class Schedule(NamedTuple):
    """The launches of a kernel over all rows."""

    whole: list[RowParts]
    """Rows with few edges, then those with more; neither if there are none."""
    parts: RowParts | None
    """The parts of the hubs."""
    hubs: Tensor
    """The rows that are split."""
    starts: Tensor
    """The first part of each hub, and the number of parts; [hubs + 1]."""
    chunk: int
    """The number of edges of a part."""

    @property
    def launches(self) -> list[RowParts]:
        """All items, with the parts of hubs first: they take longest."""
        return [*([self.parts] if self.parts else []), *self.whole]


def make_schedule(indptr: Tensor) -> Schedule:
    """Bin the rows of indptr [M + 1]; rows of a bin keep their order, and with it locality."""
    degree = indptr.diff()
    powers = [2**n for n in range(CHUNK.bit_length()) if 2**n < CHUNK]
    limits = torch.tensor([*powers, CHUNK], dtype=degree.dtype, device=degree.device)
    bins = torch.bucketize(degree, limits)
    order = bins.argsort(descending=True, stable=True).to(indptr.dtype)
    hubs, long = torch.stack([(degree > CHUNK).sum(), (degree > LONG).sum()]).tolist()
    whole = [RowParts(order[long:], None, False), RowParts(order[hubs:long], None, True)]
    hub_rows = order[:hubs]
    counts = (degree[hub_rows.long()] + CHUNK - 1) // CHUNK
    starts = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
    parts = None
    if hubs:
        hub = torch.arange(hubs, device=degree.device).repeat_interleave(counts)
        rows = hub_rows[hub]
        number = torch.arange(len(rows), device=degree.device) - starts[hub]
        parts = RowParts(rows, indptr[rows.long()] + number * CHUNK, True)
    return Schedule([items for items in whole if len(items.rows)], parts, hub_rows, starts, CHUNK)


def order_by_source(indptr: Tensor, indices: Tensor, sources: int) -> SourceOrder:
    """Return `CSR.by_source` of a CSR: indptr [N + 1], targets [E] and slots [E]."""
    dtype = indptr.dtype
    ordered, slots = indices.sort(stable=True)
    nodes = torch.arange(sources + 1, dtype=indices.dtype, device=indices.device)
    targets = torch.searchsorted(indptr, slots.to(dtype), right=True) - 1
    return torch.searchsorted(ordered, nodes).to(dtype), targets.to(dtype), slots.to(dtype)


def cached_schedule(indptr: Tensor) -> Schedule:
    """Return the schedule of these indices, computed on the first call."""
    return _cached(("schedule", CHUNK, LONG), (indptr,), lambda: make_schedule(indptr))


def cached_source_order(indptr: Tensor, indices: Tensor, sources: int) -> SourceOrder:
    """Return the order by source of these indices, computed on the first call."""
    return _cached(
        ("source order", sources),
        (indptr, indices),
        lambda: order_by_source(indptr, indices, sources),
    )


_cache: dict[tuple[object, ...], tuple[list[StorageWeakRef], object]] = {}


def _cached(name: tuple[object, ...], tensors: tuple[Tensor, ...], compute: Callable[[], _T]) -> _T:
    """Return what is computed from the tensors, cached as long as their memory exists.

    A weak reference to a storage keeps its address from being reused, so that an entry is never
    found by another storage; the version of a tensor changes with in-place operations.
    """
    memory = [StorageWeakRef(x.untyped_storage()) for x in tensors]
    layouts = ((x.storage_offset(), x.shape, x.stride(), x.dtype, _version(x)) for x in tensors)
    key = (*name, *(reference.cdata for reference in memory), *layouts)
    if key not in _cache:
        for old in [key for key, (refs, _) in _cache.items() if any(r.expired() for r in refs)]:
            del _cache[old]
        _cache[key] = (memory, compute())
    return cast(_T, _cache[key][1])


def _version(x: Tensor) -> int:
    return 0 if x.is_inference() else x._version
