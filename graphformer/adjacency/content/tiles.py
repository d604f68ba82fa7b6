"""Edges of each head in tiles: groups of targets that share a list of candidate sources."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from graphformer.adjacency.cached_property import cached_property
from graphformer.adjacency.content.listed import ListedEdges

_PAIRS = 1 << 22
"""Number of pairs whose masks are in memory at a time when edges are counted or listed."""


class Tiles(NamedTuple):
    """T groups of at most m targets; all of a group have their sources in a list of n.

    Rows are numbered by head: target i of head h is h M + i, source j is h N + j. The edges of a
    group are all pairs of its rows, those of a triangle, or those of a mask.
    """

    targets: Tensor
    """[T, m]; -1 where a group has fewer. Each row occurs exactly once."""
    sources: Tensor
    """[T, n]; -1 where a group has fewer."""
    mask: Callable[[slice | Tensor], Tensor] | None = None
    """The edges of some groups, bool [t, m, n]; all false where targets or sources are -1."""
    triangle: bool = False
    """Whether the last m sources are the nodes of the targets, -1 at their end only, of which a
    target has those up to itself."""
    has_edges: Tensor | None = None
    """Which targets have an edge, bool [T, m]; None if the masks have to be read for it."""
    run: int = 1
    """Groups follow one another in runs of this many, one of each query head of a key head, whose
    sources are the same nodes in the same order."""

    def edges(self, part: slice | Tensor) -> Tensor:
        """Return the edges of some groups, bool [t, m, n]."""
        if self.mask is not None:
            return self.mask(part)
        targets, sources = self.targets[part] >= 0, self.sources[part] >= 0
        pairs = targets.unsqueeze(2) & sources.unsqueeze(1)
        full = self.full_edges()
        return pairs if full is None else pairs & full

    def full_edges(self) -> Tensor | None:
        """Return the edges of a group without -1, bool [m, n]; None if these are all pairs."""
        if not self.triangle:
            return None
        m, n = self.targets.shape[1], self.sources.shape[1]
        return self.targets.new_ones(m, n, dtype=torch.bool).tril(n - m)

    def by_fullness(self) -> list[tuple[Tensor, bool]]:
        """Return the numbers of groups without -1 and no mask, and of the others, int64 [T']."""
        if self.mask is not None:
            return [(torch.arange(len(self.targets), device=self.targets.device), False)]
        is_full = (self.targets >= 0).all(1) & (self.sources >= 0).all(1)
        return [(each.nonzero().flatten(), full) for each, full in (
            (is_full, True), (~is_full, False))]  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False)
class TiledEdges(ListedEdges):
    """The edges of each head, as one or several sets of tiles.

    Attention is a dense product in each tile; a target that is in several sets combines their
    results by the log-sum-exp of its logits.
    """

    rounds: tuple[Tiles, ...]
    shape: tuple[int, int]
    num_heads: int
    """The number of heads H."""
    is_coalesced: bool = True

    @property
    def device(self) -> torch.device:
        """The device of the edges."""
        return self.rounds[0].targets.device

    @cached_property
    def num_head_edges(self) -> int:
        """The number of pairs of an edge and a head that has it."""
        return sum(int(tiles.edges(part).sum()) for tiles in self.rounds for part in _parts(tiles))

    def _rows(self) -> tuple[Tensor, Tensor]:
        empty = torch.empty(2, 0, dtype=torch.int64, device=self.device)
        found = [_edges(tiles, part) for tiles in self.rounds for part in _parts(tiles)]
        target, source = torch.cat([empty, *found], dim=1)
        return target, source


def _edges(tiles: Tiles, part: slice) -> Tensor:
    """Return the rows of targets and sources of the edges of some tiles, int64 [2, E']."""
    tile, row, column = tiles.edges(part).nonzero(as_tuple=True)
    return torch.stack([tiles.targets[part][tile, row], tiles.sources[part][tile, column]])


def _parts(tiles: Tiles) -> list[slice]:
    """Return slices of the tiles with about `_PAIRS` pairs each."""
    pairs = tiles.targets.shape[1] * tiles.sources.shape[1]
    step = max(1, _PAIRS // max(pairs, 1))
    return [slice(start, start + step) for start in range(0, len(tiles.targets), step)]
