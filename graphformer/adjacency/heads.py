"""Adjacencies whose heads have different edges."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, NoReturn

import torch
from torch import Tensor

from graphformer.adjacency.base import Adjacency, union
from graphformer.adjacency.cached_property import (
    cached_property,
    keeps_fields,
    outside_inference_mode,
)
from graphformer.adjacency.csr import CSR


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

    def head_bias(self, bias: Tensor | None, num_heads: int, dtype: torch.dtype) -> Tensor:
        """Return the bias of the logits, [E, H]: minus infinity where a head has no such edge.

        Args:
            bias: the bias of the present edges, [E, H]; None for zero.
            num_heads: H of the attention.
            dtype: dtype of the logits.

        Raises:
            ValueError: when the adjacency is for another number of heads.
        """
        assert self.heads is not None
        if self.heads.shape[1] != num_heads:
            raise ValueError(
                f"adjacency: got edges for {self.heads.shape[1]} heads, expected {num_heads}; give "
                "PerHead one pattern for each head of the attention"
            )
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
        return HeadEdges(indptr, targets, shape, edge_ids, heads=self.heads)

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
        return HeadEdges(self.indptr, self.indices, self.shape, heads=self.heads[self.edge_ids])

    def with_self_loops(self) -> NoReturn:
        """Refuse, as the heads of the new edges are unknown."""
        raise ValueError(
            "adjacency: got edges that differ between heads, expected the same for all heads; add "
            "self-loops to the adjacency of each head"
        )


torch.serialization.add_safe_globals([HeadEdges])
