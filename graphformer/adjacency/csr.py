"""Explicit edges, stored by target (compressed sparse rows)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from graphformer.adjacency.base import Adjacency
from graphformer.adjacency.cached_property import cached_property
from graphformer.deprecated import renamed_attribute


class CSC(NamedTuple):
    """The edges of a CSR ordered by source, then target: the road of the backward pass."""

    indptr: Tensor
    """Where each source's edges begin, [N + 1]."""
    targets: Tensor
    """The target of each edge, [E]."""
    slots: Tensor
    """The position of each edge in the by-target order, [E]."""


@dataclass(frozen=True, eq=False, repr=False)
class CSR(Adjacency):
    """Edges stored by target; `gf.from_edge_index` makes one.

    Slot s of row i, `indptr[i] <= s < indptr[i + 1]`, holds the edge `indices[s]` -> i. Sources
    ascend within a row and appear once. Indices are int32 where they fit.
    """

    indptr: Tensor
    """Where each target's slots begin, [M + 1]."""
    indices: Tensor
    """The source of each slot, [E]."""
    shape: tuple[int, int]
    edge_ids: Tensor | None = None
    """The number of each slot's edge in the caller's order, int64 [E]; None if the same."""
    inverse_index: Tensor | None = None
    """The edge that each edge of a caller's list with duplicates became, int64; else None."""
    is_coalesced: bool = True
    parts: tuple[Adjacency, ...] = ()

    given = renamed_attribute("inverse_index")

    @classmethod
    def from_edges(
        cls, edge_index: Tensor, shape: tuple[int, int], *, coalesce: bool = True
    ) -> CSR:
        """Sort and coalesce checked edges, int64 [2, E'], keeping their order as edge order.

        Without `coalesce` duplicates stay edges of their own, each with its share of the softmax.
        """
        source, target = edge_index
        keys, order = (target * max(shape[1], 1) + source).sort(stable=True)
        first = torch.ones_like(keys, dtype=torch.bool)
        first[1:] = keys[1:] != keys[:-1]
        is_coalesced = coalesce or bool(first.all())
        slots, given = order[first] if coalesce else order, None
        edge_ids = slots
        if len(slots) < len(order):
            # Number the edges that stay by their first appearance in the caller's list.
            appears = torch.zeros_like(first)
            appears[slots] = True
            edge_ids = (appears.cumsum(0) - 1)[slots]
            given = torch.empty_like(order)
            given[order] = edge_ids[first.cumsum(0) - 1]
        if torch.equal(edge_ids, torch.arange(len(edge_ids), device=edge_ids.device)):
            edge_ids = None
        indptr = _indptr(target[slots], shape[0])
        dtype = _index_dtype(len(slots), *shape)
        return cls(indptr.to(dtype), source[slots].to(dtype), shape, edge_ids, given, is_coalesced)

    @property
    def device(self) -> torch.device:
        """Where the edges live."""
        return self.indices.device

    @property
    def num_edges(self) -> int:
        """The number of edges E, duplicates counted once."""
        return self.indices.shape[0]

    @cached_property
    def target(self) -> Tensor:
        """The target of each slot, int64 [E]."""
        nodes = torch.arange(self.shape[0], device=self.device)
        degree = self.indptr.long().diff()
        return nodes.repeat_interleave(degree, output_size=self.num_edges)

    @cached_property
    def slots(self) -> Tensor:
        """The slot of each edge, int64 [E]: the inverse of `edge_ids`."""
        numbers = torch.arange(self.num_edges, device=self.device)
        if self.edge_ids is None:
            return numbers
        return torch.empty_like(numbers).scatter_(0, self.edge_ids, numbers)

    @cached_property
    def by_source(self) -> CSC:
        """The edges ordered by source, then target; made once and kept."""
        sources, slots = self.indices.sort(stable=True)
        dtype = self.indices.dtype
        indptr = _indptr(sources.long(), self.shape[1])
        return CSC(indptr.to(dtype), self.target[slots].to(dtype), slots.to(dtype))

    @cached_property
    def T(self) -> CSR:  # noqa: N802 - torch's and numpy's name
        """The same edges turned round, in the same edge order."""
        indptr, targets, slots = self.by_source
        edge_ids = slots.long() if self.edge_ids is None else self.edge_ids[slots.long()]
        shape = (self.shape[1], self.shape[0])
        parts = tuple(part.T for part in self.parts)
        return CSR(indptr, targets, shape, edge_ids, self.inverse_index, self.is_coalesced, parts)

    def to(self, device: torch.device | str) -> CSR:
        """Return this adjacency on `device`, its by-source order with it."""
        if torch.empty(0, device=device).device == self.device:
            return self
        moved = replace(
            self,
            indptr=self.indptr.to(device),
            indices=self.indices.to(device),
            edge_ids=None if self.edge_ids is None else self.edge_ids.to(device),
            inverse_index=None if self.inverse_index is None else self.inverse_index.to(device),
        )
        if "by_source" in self.__dict__:
            moved.__dict__["by_source"] = CSC(*(part.to(device) for part in self.by_source))
        return moved

    def to_csr(self) -> CSR:
        """Return itself."""
        return self

    def to_mask(self) -> Tensor:
        """Return the dense bool mask [M, N]; ValueError for edges that appear several times."""
        if not self.is_coalesced:
            raise ValueError("edges that appear several times have no mask; coalesce them first")
        return super().to_mask()

    def canonical(self) -> CSR:
        """Return the same edges in the order by target, then source."""
        return CSR(
            self.indptr, self.indices, self.shape, is_coalesced=self.is_coalesced, parts=self.parts
        )

    def append(self, target: Tensor, source: Tensor) -> CSR:
        """Return a CSR with new edges after the present ones in the edge order."""
        edges = torch.cat([self.edge_index, torch.stack([source, target])], dim=1)
        longer = CSR.from_edges(edges, self.shape, coalesce=self.is_coalesced)
        longer = replace(longer, parts=self.parts)
        if self.inverse_index is None:
            return longer
        new = torch.arange(self.num_edges, longer.num_edges, device=self.device)
        return replace(longer, inverse_index=torch.cat([self.inverse_index, new]))

    def contains(self, target: Tensor, source: Tensor) -> Tensor:
        """Whether the edges source[e] -> target[e] are present; bool, [E]."""
        return self.find_edges(target, source) >= 0

    def find_edges(self, target: Tensor, source: Tensor) -> Tensor:
        """The numbers of the edges source[e] -> target[e], int64; -1 for those that are absent."""
        if not self.num_edges:
            return torch.full_like(target, -1)
        keys = self.target * self.shape[1] + self.indices
        wanted = target * self.shape[1] + source
        place = torch.searchsorted(keys, wanted).clamp(max=self.num_edges - 1)
        number = place if self.edge_ids is None else self.edge_ids[place]
        return number.where(keys[place] == wanted, -1)


def _indptr(rows: Tensor, num_rows: int) -> Tensor:
    """Where each row begins among sorted row numbers, int64 [num_rows + 1]."""
    return torch.searchsorted(rows, torch.arange(num_rows + 1, device=rows.device))


def _index_dtype(*sizes: int) -> torch.dtype:
    return torch.int32 if max(sizes) < 2**31 else torch.int64


# torch.export takes explicit edges as inputs of the program.
torch.export.register_dataclass(CSR, serialized_type_name="graphformer.CSR")
