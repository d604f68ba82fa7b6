"""Edges of each head in tiles: groups of targets that share a list of candidate sources."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, NoReturn

import torch
from torch import Tensor

from graphformer.adjacency.base import Adjacency
from graphformer.adjacency.cached_property import cached_property
from graphformer.adjacency.csr import CSR
from graphformer.adjacency.heads import HeadEdges

_PAIRS = 1 << 22
"""Number of pairs whose masks are in memory at a time when edges are counted or listed."""


class Tiles(NamedTuple):
    """T groups of at most m targets; all of a group have their sources in a list of n.

    Rows are numbered by head: target i of head h is h M + i, source j is h N + j.
    """

    targets: Tensor
    """[T, m]; -1 where a group has fewer. Each row occurs exactly once."""
    sources: Tensor
    """[T, n]; -1 where a group has fewer."""
    mask: Callable[[slice | Tensor], Tensor]
    """The edges of some groups, bool [t, m, n]; all false where targets or sources are -1."""
    common_mask: Tensor | None = None
    """The edges of all groups that `has_common` names, bool [m, n], in place of masks of each."""
    has_common: Tensor | None = None
    """Bool [T]; None where there is no `common_mask`."""
    has_edges: Tensor | None = None
    """Which targets have an edge, bool [T, m]; None if the masks have to be read for it."""
    run: int = 1
    """Groups follow one another in runs of this many, one of each query head of a key head, whose
    sources are the same nodes in the same order."""

    def groups_by_mask(self) -> list[tuple[Tensor, Tensor | None]]:
        """Return the numbers of groups, int64, once with and once without the common mask."""
        if self.has_common is None:
            return [(torch.arange(len(self.targets), device=self.targets.device), None)]
        common, own = self.has_common.nonzero().flatten(), (~self.has_common).nonzero().flatten()
        return [(common, self.common_mask), (own, None)]


@dataclass(frozen=True, eq=False, repr=False)
class TiledEdges(Adjacency):
    """The edges of each head, as one or several sets of tiles.

    Attention is a dense product in each tile; a target that is in several sets combines their
    results by the log-sum-exp of its logits. An edge that is in several sets, or several times in
    one of them, counts that often; `is_coalesced` says that there is none.
    """

    per_head: ClassVar[bool] = True
    rounds: tuple[Tiles, ...]
    shape: tuple[int, int]
    num_heads: int
    """The number of heads H."""
    is_coalesced: bool = True

    @property
    def device(self) -> torch.device:
        """The device of the edges."""
        return self.rounds[0].targets.device

    @property
    def num_edges(self) -> int:
        """The number of edges that any head has."""
        return self.head_edges.num_edges

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

    @cached_property
    def num_head_edges(self) -> int:
        """The number of pairs of an edge and a head that has it."""
        return sum(int(tiles.mask(part).sum()) for tiles in self.rounds for part in _parts(tiles))

    @cached_property
    def head_edges(self) -> HeadEdges:
        """The edges of all heads, listed."""
        found = [self._edges(tiles, part) for tiles in self.rounds for part in _parts(tiles)]
        empty = torch.empty(2, 0, dtype=torch.int64, device=self.device)
        target, source = torch.cat([empty, *found], dim=1)
        head = target // max(self.shape[0], 1)
        return HeadEdges.from_head_edges(
            head,
            target - head * self.shape[0],
            source - head * self.shape[1],
            self.shape,
            self.num_heads,
            coalesce=self.is_coalesced,
        )

    def _edges(self, tiles: Tiles, part: slice) -> Tensor:
        """Return the rows of targets and sources of the edges of some tiles, int64 [2, E']."""
        tile, row, column = tiles.mask(part).nonzero(as_tuple=True)
        return torch.stack([tiles.targets[part][tile, row], tiles.sources[part][tile, column]])


def _parts(tiles: Tiles) -> list[slice]:
    """Return slices of the tiles with about `_PAIRS` pairs each."""
    pairs = tiles.targets.shape[1] * tiles.sources.shape[1]
    step = max(1, _PAIRS // max(pairs, 1))
    return [slice(start, start + step) for start in range(0, len(tiles.targets), step)]
