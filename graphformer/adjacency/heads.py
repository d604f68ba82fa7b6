"""Edges that only some heads of an attention have."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, NoReturn

import torch
from torch import Tensor

from graphformer.adjacency.base import Adjacency, union
from graphformer.adjacency.cached_property import cached_property
from graphformer.adjacency.csr import CSR


@dataclass(frozen=True, eq=False, repr=False)
class HeadEdges(CSR):
    """Edges of which each head has its own: the union of all, and who has which.

    Attention adds minus infinity to the logits of a head's absent edges, so that they contribute
    nothing; a target without an edge of some head gets zeros from that head.
    """

    per_head: ClassVar[bool] = True
    heads: Tensor | None = None
    """Which heads have each edge, bool [E, H], in edge order."""

    @classmethod
    def of(cls, *adjacencies: Adjacency) -> HeadEdges:
        """The edges of one adjacency for each head.

        Args:
            adjacencies: one a head, of one shape, on one device.

        Raises ValueError for none, and for several shapes or devices.
        """
        whole = union(adjacencies)
        edges = whole.to_csr().canonical()
        heads = replace(edges, parts=tuple(adjacencies)).part_mask
        return cls(edges.indptr, edges.indices, edges.shape, heads=heads)

    def head_bias(self, bias: Tensor | None, num_heads: int, dtype: torch.dtype) -> Tensor:
        """The bias on the logits, [E, H]: minus infinity where a head lacks the edge.

        Args:
            bias: what else is added, [E, H]; None for nothing.
            num_heads: H of the attention.
            dtype: of the logits.

        Raises ValueError for another number of heads.
        """
        assert self.heads is not None
        if self.heads.shape[1] != num_heads:
            raise ValueError(
                f"adjacency has edges for {self.heads.shape[1]} heads, but the attention has "
                f"{num_heads}: give it one pattern for each of its heads"
            )
        kept_out = self._kept_out.to(dtype)
        return kept_out if bias is None else bias.masked_fill(~self.heads, -torch.inf)

    @cached_property
    def _kept_out(self) -> Tensor:
        assert self.heads is not None
        zeros = torch.zeros(self.heads.shape, device=self.device)
        return zeros.masked_fill(~self.heads, -torch.inf)

    @cached_property
    def T(self) -> HeadEdges:  # noqa: N802 - torch's and numpy's name
        """The same edges turned round, in the same edge order."""
        indptr, targets, slots = self.by_source
        edge_ids = slots.long() if self.edge_ids is None else self.edge_ids[slots.long()]
        shape = (self.shape[1], self.shape[0])
        return HeadEdges(indptr, targets, shape, edge_ids, heads=self.heads)

    def to(self, device: torch.device | str) -> CSR:
        """Return this adjacency on `device`."""
        moved = super().to(device)
        if not isinstance(moved, HeadEdges) or moved is self or self.heads is None:
            return moved
        return replace(moved, heads=self.heads.to(device))

    def canonical(self) -> CSR:
        """Return the same edges in the order by target, then source."""
        if self.edge_ids is None or self.heads is None:
            return self
        return HeadEdges(self.indptr, self.indices, self.shape, heads=self.heads[self.edge_ids])

    def with_self_loops(self) -> NoReturn:
        """Refuse: nobody says which heads would have them."""
        raise ValueError(
            "adjacency has edges of some heads alone: add the self-loops to the edges of each head"
        )
