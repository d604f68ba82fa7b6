"""Edges of each head that are listed as `HeadEdges` only when something reads them so."""

from __future__ import annotations

from typing import ClassVar, NoReturn

import torch
from torch import Tensor

from graphformer.adjacency.base import Adjacency
from graphformer.adjacency.cached_property import cached_property
from graphformer.adjacency.csr import CSR
from graphformer.adjacency.heads import HeadEdges


class ListedEdges(Adjacency):
    """The base of adjacencies by head in a form that attention reads without a list of edges.

    A subclass defines `device`, `num_head_edges` and `_rows`. An edge that a head has several
    times counts that often; `is_coalesced` says that there is none.
    """

    per_head: ClassVar[bool] = True
    num_heads: int
    """The number of heads H."""

    @property
    def num_edges(self) -> int:
        """The number of edges that any head has."""
        return self.head_edges.num_edges

    def _rows(self) -> tuple[Tensor, Tensor]:
        """Return the rows h M + i and h N + j of each edge's target and source, int64 [E']."""
        raise NotImplementedError

    @cached_property
    def head_edges(self) -> HeadEdges:
        """The edges of all heads, listed."""
        target, source = self._rows()
        head = target // max(self.shape[0], 1)
        return HeadEdges.from_head_edges(
            head,
            target - head * self.shape[0],
            source - head * self.shape[1],
            self.shape,
            self.num_heads,
            coalesce=self.is_coalesced,
        )

    def to_csr(self) -> CSR:
        """Return the union of the edges of all heads, with a mask of heads."""
        return self.head_edges

    def _contains(self, target: Tensor, source: Tensor) -> Tensor:
        return self.head_edges._contains(target, source)

    @property
    def T(self) -> Adjacency:  # noqa: N802
        """The reversed edges."""
        return self.head_edges.T

    def to(self, device: torch.device | str) -> Adjacency:
        """Return this adjacency on `device`; on another one its edges are listed."""
        if torch.empty(0, device=device).device == self.device:
            return self
        return self.head_edges.to(device)

    def with_self_loops(self) -> NoReturn:
        """Refuse, as the heads of the new edges are unknown."""
        self.head_edges.with_self_loops()
