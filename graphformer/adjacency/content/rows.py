"""Edges of each head as the rows of one sparse matrix."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from graphformer.adjacency import edge_order
from graphformer.adjacency.cached_property import cached_property
from graphformer.adjacency.content.listed import ListedEdges
from graphformer.adjacency.csr import CSC


@dataclass(frozen=True, eq=False, repr=False)
class RowEdges(ListedEdges):
    """The edges of each head as rows: row h M + i has the sources g N + j of its key head g.

    The H / Hkv query heads of a key head (grouped-query attention) have the rows of its keys.
    """

    indptr: Tensor
    """The first slot of each row, int32 [H M + 1], in the order of the rows."""
    sources: Tensor
    """The source of each slot, int32 [E'], in the order of the sources."""
    shape: tuple[int, int]
    num_heads: int
    """The number of heads H."""
    num_kv_heads: int
    """The number of key heads Hkv."""
    row_ids: Tensor | None = None
    """The number h M + i of each row, int64 [H M]; None: rows are in the order of their numbers."""
    source_ids: Tensor | None = None
    """The number g N + j of each source, int64 [Hkv N]; None: in the order of their numbers."""
    is_coalesced: bool = True

    @staticmethod
    def is_supported(q: Tensor) -> bool:
        """Whether attention with queries [M, H, D] reads rows: on a CPU, with numba."""
        return edge_order.is_supported(q, (q.shape[0] * q.shape[1],))

    @property
    def device(self) -> torch.device:
        """The device of the edges."""
        return self.indptr.device

    @property
    def num_head_edges(self) -> int:
        """The number of pairs of an edge and a head that has it."""
        return len(self.sources)

    @cached_property
    def by_source(self) -> CSC:
        """The slots by source, then row; for the backward pass."""
        count = self.num_kv_heads * self.shape[1]
        return CSC(*edge_order.sort_by_source(self.indptr, self.sources, count))

    @cached_property
    def targets(self) -> Tensor:
        """The row number h M + i of each slot, int64 [E']."""
        rows = torch.arange(len(self.indptr) - 1) if self.row_ids is None else self.row_ids
        return rows.repeat_interleave(self.indptr.diff(), output_size=len(self.sources))

    @cached_property
    def source_numbers(self) -> Tensor:
        """The number g N + j of the source of each slot, int64 [E']."""
        if self.source_ids is None:
            return self.sources.long()
        return self.source_ids.index_select(0, self.sources)

    def _rows(self) -> tuple[Tensor, Tensor]:
        head = self.targets // max(self.shape[0], 1)
        return self.targets, head * self.shape[1] + self.source_numbers % max(self.shape[1], 1)
