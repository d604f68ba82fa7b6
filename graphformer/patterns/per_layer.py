"""Patterns of patterns: one for each block of a model, one for each head of an attention."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, ClassVar

import torch

from graphformer.adjacency import Adjacency, HeadEdges
from graphformer.patterns.base import Pattern, Several, lengths
from graphformer.patterns.basic import Causal, Complete, SelfLoops, Window
from graphformer.patterns.offsets import FixedEdges, Offsets
from graphformer.patterns.sparse import Dilated, Expander, GlobalNodes, Random, device_of

_LENGTHS_ALONE = (
    Causal, Complete, Dilated, Expander, FixedEdges, GlobalNodes, Offsets, Random,
    SelfLoops, Window,
)  # fmt: skip
"""Patterns that read nothing of a batch but its lengths."""


@dataclass(frozen=True)
class PerLayer(Several):
    """One pattern for each block of a model, from the first to the last."""

    outer: ClassVar[bool] = True
    patterns: tuple[Pattern, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "patterns", tuple(self.patterns))

    def __call__(self, batch: Any) -> list[Adjacency]:  # type: ignore[override]
        """Return what each pattern makes of the batch; a model takes such a list."""
        return _made(self, batch, _layers)


@dataclass(frozen=True)
class PerHead(Several):
    """One pattern for each head of an attention: the heads of a block see different edges."""

    patterns: tuple[Pattern, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "patterns", tuple(self.patterns))
        if not self.patterns:
            raise ValueError("PerHead needs at least one pattern, got none")

    def __call__(self, batch: Any) -> Adjacency:
        """Return the union of what the patterns make of the batch, which knows whose is which."""
        return _made(self, batch, _heads)


def _layers(pattern: PerLayer, batch: Any) -> list[Adjacency]:
    return [part(batch) for part in pattern.patterns]


def _heads(pattern: PerHead, batch: Any) -> Adjacency:
    return HeadEdges.of(*(part(batch) for part in pattern.patterns))


def _made(pattern: Any, batch: Any, make: Callable[[Any, Any], Any]) -> Any:
    """What `make` gives, kept for a layout: there are too many parts to keep each by itself."""
    if not _by_lengths(pattern):
        return make(pattern, batch)
    return _kept(make, pattern, lengths(batch), device_of(batch))


@lru_cache(maxsize=32)
@torch.inference_mode(False)
def _kept(make: Any, pattern: Any, sizes: tuple[int, ...], device: torch.device) -> Any:
    layout = SimpleNamespace(
        lengths=sizes, num_nodes=sum(sizes), pos=torch.empty(0, dtype=torch.int64, device=device)
    )
    return make(pattern, layout)


@lru_cache(maxsize=512)
def _by_lengths(pattern: Pattern) -> bool:
    parts = getattr(pattern, "patterns", None)
    return isinstance(pattern, _LENGTHS_ALONE) if parts is None else all(map(_by_lengths, parts))
