"""What patterns share: the protocol, unions and intersections, and what is kept between batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, reduce
from operator import and_, or_
from typing import Any, ClassVar

import torch

from graphformer import adjacency
from graphformer.adjacency import CSR, Adjacency


class Pattern:
    """A rule that makes the adjacency for a batch."""

    def __call__(self, batch: Any) -> Adjacency:
        """Return who attends to whom in `batch`."""
        raise NotImplementedError

    def __or__(self, other: Pattern) -> Pattern:
        """The edges of either."""
        if isinstance(other, Several):
            return NotImplemented  # it combines each of its patterns
        return Union((*_parts(self), *_parts(other)))

    def __and__(self, other: Pattern) -> Pattern:
        """The edges of both."""
        if isinstance(other, Several):
            return NotImplemented
        return Intersection((self, other))


class Several(Pattern):
    """Patterns side by side; what is combined with them is combined with each."""

    patterns: tuple[Pattern, ...]
    outer: ClassVar[bool] = False
    """Whether they hold those of another kind, when both are combined."""

    def __or__(self, other: Pattern) -> Pattern:
        """The edges of either, pattern by pattern."""
        return self._each(other, or_)

    def __ror__(self, other: Pattern) -> Pattern:
        """The edges of either, pattern by pattern."""
        return self._each(other, lambda own, given: given | own)

    def __and__(self, other: Pattern) -> Pattern:
        """The edges of both, pattern by pattern."""
        return self._each(other, and_)

    def __rand__(self, other: Pattern) -> Pattern:
        """The edges of both, pattern by pattern."""
        return self._each(other, lambda own, given: given & own)

    def _each(self, other: Pattern, combine: Callable[[Pattern, Pattern], Pattern]) -> Pattern:
        make: Callable[[tuple[Pattern, ...]], Pattern] = type(self)
        if isinstance(other, Several) and other.outer and not self.outer:
            return NotImplemented
        if not isinstance(other, type(self)):
            return make(tuple(combine(own, other) for own in self.patterns))
        if len(other.patterns) != len(self.patterns):
            raise ValueError(
                f"{type(self).__name__} of {len(self.patterns)} patterns cannot be combined with "
                f"one of {len(other.patterns)}"
            )
        pairs = zip(self.patterns, other.patterns, strict=True)
        return make(tuple(combine(own, given) for own, given in pairs))


@dataclass(frozen=True)
class Union(Pattern):
    """The edges that any of the patterns has; the adjacency's `part_mask` tells which."""

    patterns: tuple[Pattern, ...]

    def __post_init__(self) -> None:
        _check_parts(self)

    def __call__(self, batch: Any) -> Adjacency:
        """Return the union of what the patterns make of the batch."""
        return _combined(_union, *(pattern(batch) for pattern in self.patterns))


@dataclass(frozen=True)
class Intersection(Pattern):
    """The edges that all of the patterns have."""

    patterns: tuple[Pattern, ...]

    def __post_init__(self) -> None:
        _check_parts(self)

    def __call__(self, batch: Any) -> Adjacency:
        """Return the intersection of what the patterns make of the batch."""
        return _combined(_intersection, *(pattern(batch) for pattern in self.patterns))


def lengths(batch: Any) -> tuple[int, ...]:
    """The number of nodes of each sample: `batch.lengths`, or from `ptr`, or all nodes as one."""
    given = getattr(batch, "lengths", None)
    if given is not None:
        return tuple(map(int, given))
    ptr = getattr(batch, "ptr", None)
    return (batch.num_nodes,) if ptr is None else tuple(ptr.diff().tolist())


@lru_cache(maxsize=16)
def rule(make: Callable[..., Adjacency], *arguments: Any) -> Adjacency:
    """Make a rule's adjacency once for a batch layout; equal batches share what it keeps."""
    return make(*arguments)


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def _combined(combine: Callable[..., Adjacency], *parts: Adjacency) -> Adjacency:
    """Combine adjacencies once for a batch layout, where the edges that are stored lie."""
    device = next((part.device for part in parts if isinstance(part, CSR)), parts[0].device)
    return combine(*(part.to(device) for part in parts))


def _union(*parts: Adjacency) -> Adjacency:
    return adjacency.union(parts)


def _intersection(*parts: Adjacency) -> Adjacency:
    return reduce(and_, parts)


def _parts(pattern: Pattern) -> tuple[Pattern, ...]:
    """A union's patterns, so that a | b | c is one union of three."""
    return pattern.patterns if isinstance(pattern, Union) else (pattern,)


def wanted(batch: Any, name: str, pattern: str) -> Any:
    """The field `name` of a batch; ValueError, which names the `pattern`, where it is missing."""
    value = getattr(batch, name, None)
    if value is None:
        hint = ""
        if hasattr(batch, "to_homogeneous"):
            hint = ": it has nodes of several kinds, pass batch.to_homogeneous()"
        raise ValueError(f"the pattern {pattern} needs batch.{name}, which this batch lacks{hint}")
    return value


def _check_parts(pattern: Union | Intersection) -> None:
    object.__setattr__(pattern, "patterns", tuple(pattern.patterns))
    if not pattern.patterns:
        raise ValueError(f"{type(pattern).__name__} needs at least one pattern, got none")
    several = [part for part in pattern.patterns if isinstance(part, Several)]
    if several:
        raise ValueError(
            f"{type(pattern).__name__} makes one adjacency, but {type(several[0]).__name__} makes "
            "several: combine them with | and &, or put the union inside"
        )
