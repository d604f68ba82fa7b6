"""Adjacencies whose heads have different edges."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple, NoReturn

import torch
from torch import Tensor

from graphformer.adjacency.base import Adjacency, consecutive_rows, union
from graphformer.adjacency.cached_property import (
    cached_property,
    keeps_fields,
    outside_inference_mode,
)
from graphformer.adjacency.csr import CSC, CSR


class HeadRows(NamedTuple):
    """The edges of each head as rows of one sparse matrix: row h M + i has the sources h N + j.

    Positions are those of edge and head in an array [E, H] in slot order, slot * H + h.
    """

    indptr: Tensor
    """The first entry of each row, [H M + 1]."""
    sources: Tensor
    """[E'], for E' pairs of an edge and a head that has it."""
    positions: Tensor
    """The position of each entry, [E']."""
    by_source: CSC
    """The entries by source, with positions instead of slots."""


class DenseSamples(NamedTuple):
    """The samples of one size as dense masks."""

    rows: Tensor | None
    """Their nodes, sample by sample, [B n]; None for all."""
    number: int
    """The number B of samples."""
    mask: Tensor
    """Added to the logits: 0 for the edges of a head, minus infinity elsewhere, [B, H, n, n].

    It is 0 for targets without an edge, because kernels return NaN if a row is masked completely.
    """
    empty: Tensor | None
    """Which targets have no edge, bool [B, H, n, 1]; None if all have one."""


@keeps_fields
@dataclass(frozen=True, eq=False, repr=False)
class HeadEdges(CSR):
    """The union of the edges of all heads, with a mask of the heads that have each edge.

    Attention adds minus infinity to the logits of edges that a head does not have, so that they
    contribute nothing; a target without an edge in some head gets zeros from that head.
    """

    per_head: ClassVar[bool] = True
    heads: Tensor | None = None
    """The heads that have each edge, bool [E, H], in edge order."""

    @classmethod
    @outside_inference_mode
    def of(cls, *adjacencies: Adjacency) -> HeadEdges:
        """Combine one adjacency per head.

        Args:
            adjacencies: one per head, of one shape, on one device.

        Raises:
            ValueError: when there are none, several shapes or devices, or repeated edges.
        """
        if not all(adjacency.is_coalesced for adjacency in adjacencies):
            raise ValueError(
                "adjacencies: got edges that may occur several times, expected coalesced edges in "
                "each head; make them with coalesce=True"
            )
        whole = union(adjacencies)
        edges = whole.to_csr().canonical()
        heads = replace(edges, parts=tuple(adjacencies)).part_mask
        return cls(edges.indptr, edges.indices, edges.shape, heads=heads)

    @classmethod
    @outside_inference_mode
    def from_head_edges(
        cls,
        head: Tensor,
        target: Tensor,
        source: Tensor,
        shape: tuple[int, int],
        num_heads: int,
        *,
        coalesce: bool = True,
    ) -> HeadEdges:
        """Combine edges that are listed with their head.

        Args:
            head, target, source: of each edge, int64 [E'].
            shape: (targets, sources).
            num_heads: the number of heads H.
            coalesce: whether an edge that a head has several times is one edge; else each has its
                own share of the softmax.
        """
        edges = torch.stack([source, target])
        if coalesce:
            whole = CSR.from_edges(edges, shape)
            ids = whole.inverse_index
            if ids is None:  # every edge belongs to one head only
                ids = torch.arange(whole.num_edges, device=head.device)
        else:  # the n-th time that a head has an edge is the n-th edge of the union
            times = torch.stack([target, source, _times(head, target, source)])
            (target, source, _), ids = times.unique(dim=1, return_inverse=True)
            whole = CSR.from_edges(torch.stack([source, target]), shape, coalesce=False)
        heads = torch.zeros(whole.num_edges, num_heads, dtype=torch.bool, device=head.device)
        heads[ids, head] = True
        if whole.edge_ids is not None:
            heads = heads[whole.edge_ids]
        return cls(whole.indptr, whole.indices, shape, is_coalesced=whole.is_coalesced, heads=heads)

    def check_heads(self, num_heads: int) -> None:
        """Check that the adjacency is for this number of heads.

        Raises:
            ValueError: when it is not.
        """
        assert self.heads is not None
        if self.heads.shape[1] != num_heads:
            raise ValueError(
                f"adjacency: got edges for {self.heads.shape[1]} heads, expected {num_heads}; give "
                "PerHead one pattern for each head of the attention"
            )

    @cached_property
    def num_head_edges(self) -> int:
        """The number of pairs of an edge and a head that has it."""
        assert self.heads is not None
        return int(self.heads.sum())

    @cached_property
    def head_rows(self) -> HeadRows:
        """The edges of each head as rows of one sparse matrix."""
        assert self.heads is not None
        heads = self.heads if self.edge_ids is None else self.heads[self.edge_ids]
        head, slot = heads.T.nonzero(as_tuple=True)
        count, (targets, sources) = heads.shape[1], self.shape
        row = head * targets + self.target[slot]
        columns = head * sources + self.indices[slot]
        indptr = torch.zeros(count * targets + 1, dtype=torch.int64, device=self.device)
        torch.cumsum(torch.bincount(row, minlength=count * targets), 0, out=indptr[1:])
        dtype = torch.int32 if max(len(indptr), heads.numel()) < 2**31 else torch.int64
        shape = (count * targets, count * sources)
        flat = CSR(indptr.to(dtype), columns.to(dtype), shape)
        positions = (slot * count + head).to(dtype)
        by_source = flat.by_source._replace(slots=positions[flat.by_source.slots.long()])
        return HeadRows(flat.indptr, flat.indices, positions, by_source)

    @cached_property
    def samples(self) -> tuple[int, ...]:
        """The sizes of the smallest groups of consecutive nodes that no edge leaves or enters."""
        targets, sources = self.shape
        nodes = torch.arange(targets)
        first, last = nodes.clone(), nodes.clone()
        row, source = self.target.cpu(), self.indices.long().cpu()
        if targets != sources or not targets:
            return ()
        first.scatter_reduce_(0, row, source, "amin")
        last.scatter_reduce_(0, row, source, "amax")
        reached = last.cummax(0).values  # by nodes up to this one
        first = first.flip(0).cummin(0).values.flip(0)  # by this node and those after it
        closed = torch.ones(targets, dtype=torch.bool)
        closed[:-1] = first[1:] > nodes[:-1]
        ends = nodes[(reached <= nodes) & closed] + 1
        return tuple(ends.diff(prepend=torch.zeros(1, dtype=torch.int64)).tolist())

    @cached_property
    def sample_density(self) -> float:
        """The share of the pairs of nodes within `samples` that is present, over all heads."""
        assert self.heads is not None
        pairs = sum(size**2 for size in self.samples) * self.heads.shape[1]
        return self.num_head_edges / pairs if pairs else 0.0

    @cached_property
    def dense_samples(self) -> list[DenseSamples]:
        """The samples as dense masks, grouped by size."""
        assert self.heads is not None
        heads = self.heads if self.edge_ids is None else self.heads[self.edge_ids]
        sizes = torch.tensor(self.samples, device=self.device)
        starts = sizes.cumsum(0) - sizes
        sample = torch.repeat_interleave(sizes)  # of each node
        row, groups = self.target, []
        for size in sorted(set(self.samples)):
            members = (sizes == size).nonzero().flatten()
            number = torch.full_like(sizes, -1)
            number[members] = torch.arange(len(members), device=self.device)
            slots = (number[sample[row]] >= 0).nonzero().flatten()
            of = sample[row[slots]]
            mask = torch.full((len(members), size, size, heads.shape[1]), -torch.inf)
            mask = mask.to(self.device)
            local = row[slots] - starts[of], self.indices[slots].long() - starts[of]
            mask[number[of], local[0], local[1]] = torch.where(heads[slots], 0.0, -torch.inf)
            mask = mask.permute(0, 3, 1, 2).contiguous()
            empty = (mask == -torch.inf).all(-1, keepdim=True)
            rows = None
            if len(members) < len(sizes):
                rows = consecutive_rows(starts[members], size)
            if not empty.any():
                groups.append(DenseSamples(rows, len(members), mask, None))
            else:
                mask.masked_fill_(empty, 0)
                groups.append(DenseSamples(rows, len(members), mask, empty))
        return groups

    def head_bias(self, bias: Tensor | None, num_heads: int, dtype: torch.dtype) -> Tensor:
        """Return the bias of the logits, [E, H]: minus infinity where a head has no such edge.

        Args:
            bias: the bias of the present edges, [E, H]; None for zero.
            num_heads: H of the attention.
            dtype: dtype of the logits.

        Raises:
            ValueError: when the adjacency is for another number of heads.
        """
        self.check_heads(num_heads)
        assert self.heads is not None
        if bias is None:
            return self._absent_bias.to(dtype)
        return bias.masked_fill(~self.heads, -torch.inf)

    @cached_property
    def _absent_bias(self) -> Tensor:
        """0 for the edges of a head, minus infinity for the others, float32 [E, H]."""
        assert self.heads is not None
        zeros = torch.zeros(self.heads.shape, device=self.device)
        return zeros.masked_fill(~self.heads, -torch.inf)

    @cached_property
    def T(self) -> HeadEdges:  # noqa: N802 - torch's and numpy's name
        """The reversed edges, in the same edge order."""
        indptr, targets, slots = self.by_source
        edge_ids = slots.long() if self.edge_ids is None else self.edge_ids[slots.long()]
        shape = (self.shape[1], self.shape[0])
        return HeadEdges(
            indptr, targets, shape, edge_ids, is_coalesced=self.is_coalesced, heads=self.heads
        )

    def to(self, device: torch.device | str) -> CSR:
        """Return this adjacency on `device`, its mask of heads too."""
        moved = super().to(device)
        if not isinstance(moved, HeadEdges) or moved is self or self.heads is None:
            return moved
        return replace(moved, heads=self.heads.to(device))

    def canonical(self) -> CSR:
        """Return the same edges, with their heads, in the order by target, then source."""
        if self.edge_ids is None or self.heads is None:
            return self
        heads = self.heads[self.edge_ids]
        is_coalesced = self.is_coalesced
        return HeadEdges(
            self.indptr, self.indices, self.shape, is_coalesced=is_coalesced, heads=heads
        )

    def with_self_loops(self) -> NoReturn:
        """Refuse, as the heads of the new edges are unknown."""
        raise ValueError(
            "adjacency: got edges that differ between heads, expected the same for all heads; add "
            "self-loops to the adjacency of each head"
        )


def _times(head: Tensor, target: Tensor, source: Tensor) -> Tensor:
    """Return how often each edge of a head is listed before, int64 [E']."""
    _, ids = torch.stack([head, target, source]).unique(dim=1, return_inverse=True)
    ordered, order = ids.sort(stable=True)
    times = torch.empty_like(ids)
    place = torch.arange(len(ids), device=ids.device)
    times[order] = place - torch.searchsorted(ordered, ordered)
    return times


torch.serialization.add_safe_globals([HeadEdges])
