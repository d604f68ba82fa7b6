"""Groups of patterns: one per block of a model, or one per head of an attention."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch

from graphformer.adjacency import CSR, Adjacency, HeadEdges
from graphformer.patterns.base import Pattern, PatternGroup
from graphformer.patterns.basic import Causal, Complete, SelfLoops, Window
from graphformer.patterns.fields import Layout, device_of, sample_layout
from graphformer.patterns.offsets import FixedEdges, Offsets
from graphformer.patterns.sparse import Dilated, Expander, GlobalNodes, Random

if TYPE_CHECKING:
    from graphformer.batch_type import BatchLike

_LAYOUT_PATTERNS = (
    Causal, Complete, Dilated, Expander, FixedEdges, GlobalNodes, Offsets, Random,
    SelfLoops, Window,
)  # fmt: skip
"""Patterns that read only the sizes of a batch's samples."""


@dataclass(frozen=True)
class PerLayer(PatternGroup):
    """One pattern per block of a model, from the first to the last.

    Args:
        patterns: of the blocks.
        repeat: number of times that the patterns follow one another: with a causal pattern, a
            causal window and 6 these are the alternating dense and banded blocks of GPT-3 in a
            model of 12 blocks. The attribute `patterns` has those of all blocks.

    Raises:
        ValueError: when `repeat` is below 1.

    Source: Brown et al., 2020 (GPT-3), section 2.1.
    """

    outer: ClassVar[bool] = True
    patterns: tuple[Pattern, ...]
    repeat: int = 1

    def __post_init__(self) -> None:
        if self.repeat < 1:
            raise ValueError(f"repeat: got {self.repeat}, expected at least 1")
        object.__setattr__(self, "patterns", tuple(self.patterns) * self.repeat)
        object.__setattr__(self, "repeat", 1)

    def __call__(self, batch: BatchLike) -> list[Adjacency]:  # type: ignore[override]
        """Return the adjacency of each block."""
        return _cached_group(self, batch, _per_layer)


@dataclass(frozen=True)
class PerHead(PatternGroup):
    """One pattern per head of an attention.

    Raises:
        ValueError: when there are none.
    """

    patterns: tuple[Pattern, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "patterns", tuple(self.patterns))
        if not self.patterns:
            raise ValueError("patterns: got none, expected one per head; give PerHead its patterns")

    def __call__(self, batch: BatchLike) -> Adjacency:
        """Return the union of the patterns' adjacencies, with a mask of edges per head."""
        return _cached_group(self, batch, _per_head)


def _per_layer(pattern: PerLayer, batch: BatchLike) -> list[Adjacency]:
    return [part(batch) for part in pattern.patterns]


def _per_head(pattern: PerHead, batch: BatchLike) -> Adjacency:
    # The mask of a head has one value per pair of nodes, so parallel edges are coalesced.
    parts = [part(batch) for part in pattern.patterns]
    return HeadEdges.of(*(part if part.is_coalesced else _coalesced(part) for part in parts))


def _coalesced(adjacency: Adjacency) -> Adjacency:
    return CSR.from_edges(adjacency.edge_index, adjacency.shape)


def _cached_group(pattern: Any, batch: BatchLike, make: Callable[[Any, BatchLike], Any]) -> Any:
    """Return `make(pattern, batch)`, cached as a whole where the sizes of samples determine it.

    The cache of single adjacencies is smaller than the number of patterns in a group.
    """
    sizes, order = sample_layout(batch) if _reads_layout_only(pattern) else ((), None)
    if not _reads_layout_only(pattern) or order is not None:
        return make(pattern, batch)
    return _cached_by_layout(make, pattern, Layout(sizes, device_of(batch)))


@lru_cache(maxsize=32)
@torch.inference_mode(False)
def _cached_by_layout(make: Callable[[Any, BatchLike], Any], pattern: Any, layout: Layout) -> Any:
    return make(pattern, cast("BatchLike", layout))


@lru_cache(maxsize=512)
def _reads_layout_only(pattern: Pattern) -> bool:
    parts = getattr(pattern, "patterns", None)
    if parts is None:
        return isinstance(pattern, _LAYOUT_PATTERNS)
    return all(map(_reads_layout_only, parts))
