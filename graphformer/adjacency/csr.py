"""Explicit edges, stored by target (compressed sparse rows)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from graphformer.adjacency import edge_order
from graphformer.adjacency.base import (
    Adjacency,
    transposed_parts,
)
from graphformer.adjacency.cached_property import (
    cached_property,
    is_tracing,
    keeps_fields,
    outside_inference_mode,
    untraced,
)
from graphformer.adjacency.checks import check_range
from graphformer.deprecated import renamed_attribute


class CSC(NamedTuple):
    """The edges of a CSR ordered by source, then target; used by the backward pass."""

    indptr: Tensor
    """The first edge of each source, [N + 1]."""
    targets: Tensor
    """The target of each edge, [E]."""
    slots: Tensor
    """The slot of each edge in the CSR, [E]."""


@keeps_fields
@dataclass(frozen=True, eq=False, repr=False)
class CSR(Adjacency):
    """Edges stored by target; `gf.from_edge_index` makes one.

    Slot s of row i, `indptr[i] <= s < indptr[i + 1]`, holds the edge `indices[s]` -> i. Sources
    ascend within a row and occur once, unless `is_coalesced` is false. Indices are int32 where
    they fit.
    """

    indptr: Tensor
    """The first slot of each target, [M + 1]."""
    indices: Tensor
    """The source of each slot, [E]."""
    shape: tuple[int, int]
    edge_ids: Tensor | None = None
    """The id of each slot's edge, its column in `edge_index`, int64 [E]; None if the same."""
    inverse_index: Tensor | None = None
    """The id of the edge for each column of an edge list with duplicates, int64 [E']; else None."""
    is_coalesced: bool = True
    parts: tuple[Adjacency, ...] = ()
    is_union_of_parts: bool = True

    given = renamed_attribute("inverse_index")

    def __post_init__(self) -> None:
        if is_tracing():
            self.__dict__["_is_traced"] = True

    @classmethod
    @outside_inference_mode
    def from_edges(
        cls, edge_index: Tensor, shape: tuple[int, int], *, coalesce: bool = True
    ) -> CSR:
        """Sort and coalesce edges, int64 [2, E'], keeping their order as edge order.

        Without `coalesce` duplicates stay edges of their own, each with its share of the softmax.

        Raises:
            IndexError: when a node is out of range.
        """
        if edge_order.is_supported(edge_index, shape):
            rows = edge_order.sort_by_target(edge_index, shape, coalesce)
            if rows is not None:
                indptr, indices, edge_ids, inverse_index, has_duplicates = rows
                is_coalesced = coalesce or not has_duplicates
                return cls(indptr, indices, shape, edge_ids, inverse_index, is_coalesced)
        for name, nodes, size in zip(("source", "target"), edge_index, shape[::-1], strict=True):
            check_range(name, nodes, size)
        source, target = edge_index
        keys, order = (target * max(shape[1], 1) + source).sort(stable=True)
        first = keys != keys.roll(1)
        first[:1] = True
        # Numbers that depend on the data break the graph of a compiler, so there are fewer then.
        is_traced = torch.compiler.is_compiling()
        is_coalesced = coalesce or (not is_traced and bool(first.all()))
        # `slots[s]` is the column in the caller's list of the edge in slot s.
        slots, inverse_index = order[first] if coalesce else order, None
        edge_ids = slots
        if coalesce and (is_traced or len(slots) < len(order)):
            # Number the remaining edges by their first occurrence in the caller's list.
            is_first = torch.zeros_like(first)
            is_first[slots] = True
            edge_ids = (is_first.cumsum(0) - 1)[slots]
            inverse_index = torch.empty_like(order)
            inverse_index[order] = edge_ids[first.cumsum(0) - 1]
        if not is_traced and _is_arange(edge_ids):
            edge_ids = None
        indptr = _indptr(target[slots], shape[0])
        dtype = torch.int64 if is_traced else _index_dtype(len(slots), *shape)
        indices = source[slots].to(dtype)
        return cls(indptr.to(dtype), indices, shape, edge_ids, inverse_index, is_coalesced)

    @property
    def device(self) -> torch.device:
        """The device of the edges."""
        return self.indices.device

    @property
    def num_edges(self) -> int:
        """The number of edges E; duplicates are one edge if `is_coalesced`."""
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
        """The edges ordered by source, then target."""
        if self.indices.dtype == torch.int32 and edge_order.is_supported(self.indices, self.shape):
            return CSC(*edge_order.sort_by_source(self.indptr, self.indices, self.shape[1]))
        sources, slots = self.indices.sort(stable=True)
        dtype = self.indices.dtype
        indptr = _indptr(sources.long(), self.shape[1])
        return CSC(indptr.to(dtype), self.target[slots].to(dtype), slots.to(dtype))

    @cached_property
    def T(self) -> CSR:  # noqa: N802 - torch's and numpy's name
        """The reversed edges, in the same edge order."""
        indptr, targets, slots = self.by_source
        edge_ids = slots.long() if self.edge_ids is None else self.edge_ids[slots.long()]
        shape = (self.shape[1], self.shape[0])
        return CSR(
            indptr,
            targets,
            shape,
            edge_ids,
            self.inverse_index,
            self.is_coalesced,
            transposed_parts(self),
            self.is_union_of_parts,
        )

    @outside_inference_mode
    def to(self, device: torch.device | str) -> CSR:
        """Return this adjacency on `device`, with its by-source order if that is cached."""
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
        """Return this adjacency, which is stored by target already."""
        return self

    def to_mask(self) -> Tensor:
        """Return the dense bool mask [M, N].

        Raises:
            ValueError: when an edge may occur several times.
        """
        if not self.is_coalesced:
            raise ValueError(
                "adjacency: got edges that may occur several times, expected coalesced edges for a "
                "mask; make it with coalesce=True"
            )
        return super().to_mask()

    def canonical(self) -> CSR:
        """Return the same edges in the order by target, then source."""
        return CSR(
            self.indptr,
            self.indices,
            self.shape,
            is_coalesced=self.is_coalesced,
            parts=self.parts,
            is_union_of_parts=self.is_union_of_parts,
        )

    def with_self_loops(self) -> Adjacency:
        """Add the missing edges i -> i, after all others in the edge order."""
        targets, sources = self.shape
        if not (torch.compiler.is_compiling() and self.is_coalesced and targets == sources):
            return super().with_self_loops()
        # Loops that are present already are coalesced: nothing branches on their number.
        nodes = torch.arange(targets, device=self.device).expand(2, -1)
        longer = CSR.from_edges(torch.cat([self.edge_index, nodes], dim=1), self.shape)
        given = self.inverse_index
        if given is None:
            given = torch.arange(self.num_edges, device=self.device)
        assert longer.inverse_index is not None
        inverse_index = longer.inverse_index[given]
        return replace(
            longer,
            inverse_index=inverse_index,
            parts=self.parts,
            is_union_of_parts=not self.parts,
        )

    @outside_inference_mode
    def append(self, target: Tensor, source: Tensor) -> CSR:
        """Return a CSR with new edges after the present ones in the edge order."""
        edges = torch.cat([self.edge_index, torch.stack([source, target])], dim=1)
        longer = CSR.from_edges(edges, self.shape, coalesce=self.is_coalesced)
        longer = replace(longer, parts=self.parts, is_union_of_parts=not self.parts)
        if self.inverse_index is None:
            return longer
        new = torch.arange(self.num_edges, longer.num_edges, device=self.device)
        return replace(longer, inverse_index=torch.cat([self.inverse_index, new]))

    def _compute(self, name: str) -> Any:
        if "_is_traced" in self.__dict__ or not is_tracing():
            return super()._compute(name)
        # In torch.jit.trace, what an adjacency from outside caches is a constant too.
        with untraced():
            return super()._compute(name)

    def _contains(self, target: Tensor, source: Tensor) -> Tensor:
        return self._find_edges(target, source) >= 0

    def _find_edges(self, target: Tensor, source: Tensor) -> Tensor:
        """`find_edges` for nodes that are known to be in range."""
        if not torch.compiler.is_compiling() and not self.num_edges:
            return torch.full_like(target, -1)
        # Slots are ordered by the key of their edge, so that a binary search finds it.
        keys = self.target * self.shape[1] + self.indices
        searched = target * self.shape[1] + source
        slot = torch.searchsorted(keys, searched).clamp(max=self.num_edges - 1)
        edge_id = slot if self.edge_ids is None else self.edge_ids[slot]
        return edge_id.where(keys[slot] == searched, -1)


def _indptr(rows: Tensor, num_rows: int) -> Tensor:
    """The first index of each row among sorted row numbers, int64 [num_rows + 1]."""
    return torch.searchsorted(rows, torch.arange(num_rows + 1, device=rows.device))


def _is_arange(numbers: Tensor) -> bool:
    """Whether the numbers are 0, 1, 2, ..."""
    return torch.equal(numbers, torch.arange(len(numbers), device=numbers.device))


def _index_dtype(*sizes: int) -> torch.dtype:
    return torch.int32 if max(sizes) < 2**31 else torch.int64


# torch.export treats explicit edges as inputs of the program.
torch.export.register_dataclass(CSR, serialized_type_name="graphformer.CSR")
# `torch.load` with its default `weights_only=True` reads adjacencies.
torch.serialization.add_safe_globals([CSR])
