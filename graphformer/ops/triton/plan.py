"""Which rows a program takes: rows binned by degree, rows with many edges split into parts.

A plan belongs to the indices of an adjacency. It is made once, with the only waits for the device
there are, and found again by the memory that the indices lie in; so it survives tracing, and a
CUDA graph replays without it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

CHUNK = 512
"""Rows with more edges than this are split into parts of that many."""
LONG = 32
"""Rows with more edges than this get more lanes each, so that fewer of them share a program."""


class Items(NamedTuple):
    """What the programs of one launch work on."""

    rows: Tensor
    """The row of each item."""
    begins: Tensor | None
    """The first slot of each item, a part of its row; None where items are whole rows."""
    long: bool


class LaunchPlan(NamedTuple):
    """The launches of a pass over rows."""

    whole: list[Items]
    """Rows with few edges, then those with more; neither if there are none."""
    parts: Items | None
    hubs: Tensor
    """The rows that are split."""
    starts: Tensor
    """The first part of each hub, and their number at the end."""
    chunk: int

    @property
    def launches(self) -> list[Items]:
        """All items, parts of hubs first: they take longest."""
        return [*([self.parts] if self.parts else []), *self.whole]


def make_plan(indptr: Tensor) -> LaunchPlan:
    """Bin the rows of indptr [M + 1]; within a bin they keep their order, and so their locality."""
    degree = indptr.diff()
    doubling = [2**n for n in range(CHUNK.bit_length()) if 2**n < CHUNK]
    limits = torch.tensor([*doubling, CHUNK], dtype=degree.dtype, device=degree.device)
    bins = torch.bucketize(degree, limits)
    order = bins.argsort(descending=True, stable=True).to(indptr.dtype)
    hubs, long = torch.stack([(degree > CHUNK).sum(), (degree > LONG).sum()]).tolist()
    whole = [Items(order[long:], None, False), Items(order[hubs:long], None, True)]
    hub_rows = order[:hubs]
    counts = (degree[hub_rows.long()] + CHUNK - 1) // CHUNK
    starts = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
    parts = None
    if hubs:
        number = torch.arange(hubs, device=degree.device).repeat_interleave(counts)
        rows = hub_rows[number]
        place = torch.arange(len(rows), device=degree.device) - starts[number]
        parts = Items(rows, indptr[rows.long()] + place * CHUNK, True)
    return LaunchPlan([items for items in whole if len(items.rows)], parts, hub_rows, starts, CHUNK)


def by_source(indptr: Tensor, indices: Tensor, sources: int) -> tuple[Tensor, Tensor, Tensor]:
    """`CSR.by_source` of a CSR: indptr [N + 1], targets [E] and slots [E]."""
    dtype = indptr.dtype
    ordered, slots = indices.sort(stable=True)
    nodes = torch.arange(sources + 1, dtype=indices.dtype, device=indices.device)
    targets = torch.searchsorted(indptr, slots.to(dtype), right=True) - 1
    return torch.searchsorted(ordered, nodes).to(dtype), targets.to(dtype), slots.to(dtype)


_kept: dict[
    tuple[object, ...], tuple[StorageWeakRef, LaunchPlan | tuple[Tensor, Tensor, Tensor]]
] = {}


def plan_of(indptr: Tensor) -> LaunchPlan:
    """The plan of these indices, made on first need."""
    found = _find("plan", indptr)
    if not isinstance(found, LaunchPlan):
        found = _keep("plan", indptr, make_plan(indptr))
    return found


def order_of(indptr: Tensor, indices: Tensor, sources: int) -> tuple[Tensor, Tensor, Tensor]:
    """The order by source of these indices, made on first need."""
    found = _find("order", indices)
    if found is None:
        found = _keep("order", indices, by_source(indptr, indices, sources))
    return found  # type: ignore[return-value]


def _key(name: str, x: Tensor) -> tuple[tuple[object, ...], StorageWeakRef]:
    memory = StorageWeakRef(x.untyped_storage())
    return (name, memory.cdata, x.storage_offset(), x.shape, CHUNK), memory


def _find(name: str, x: Tensor) -> LaunchPlan | tuple[Tensor, Tensor, Tensor] | None:
    key, _ = _key(name, x)
    return _kept[key][1] if key in _kept else None


def _keep(name: str, x: Tensor, value):  # type: ignore[no-untyped-def]
    # A weak reference keeps the address of freed memory from being given to another storage, so
    # what is found by it belongs to living memory or to none.
    for old in [key for key, (memory, _) in _kept.items() if memory.expired()]:
        del _kept[old]
    key, memory = _key(name, x)
    _kept[key] = (memory, value)
    return value
