"""The pattern protocol, unions and intersections of patterns, and the cache of adjacencies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial, reduce
from operator import and_, or_
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from graphformer import adjacency
from graphformer.adjacency import CSR, Adjacency
from graphformer.patterns.fields import sample_layout

if TYPE_CHECKING:
    from graphformer.batch_type import BatchLike


class Pattern:
    """A rule that makes the adjacency of a batch."""

    is_combined_by_itself: ClassVar[bool] = False
    """Whether `|` and `&` with other patterns are those of this one."""

    def __call__(self, batch: BatchLike) -> Adjacency:
        """Return the adjacency of `batch`, N x N."""
        raise NotImplementedError

    def __or__(self, other: Pattern) -> Pattern:
        """Return the pattern of the edges in either."""
        if other.is_combined_by_itself:
            return NotImplemented  # its __ror__ is called
        return Union((*_operands(self), *_operands(other)))

    def __and__(self, other: Pattern) -> Pattern:
        """Return the pattern of the edges in both."""
        if other.is_combined_by_itself:
            return NotImplemented
        return Intersection((self, other))


class PatternGroup(Pattern):
    """Several patterns that stay separate; `|` and `&` apply to each of them."""

    is_combined_by_itself: ClassVar[bool] = True
    patterns: tuple[Pattern, ...]
    outer: ClassVar[bool] = False
    """Whether this group is the outer one where two kinds of groups are combined."""

    def __or__(self, other: Pattern) -> Pattern:
        """Return the union with `other`, pattern by pattern."""
        return self._combine(other, or_)

    def __ror__(self, other: Pattern) -> Pattern:
        """Return the union of `other` with each pattern."""
        return self._combine(other, lambda a, b: b | a)

    def __and__(self, other: Pattern) -> Pattern:
        """Return the intersection with `other`, pattern by pattern."""
        return self._combine(other, and_)

    def __rand__(self, other: Pattern) -> Pattern:
        """Return the intersection of `other` with each pattern."""
        return self._combine(other, lambda a, b: b & a)

    def _combine(self, other: Pattern, operator: Callable[[Pattern, Pattern], Pattern]) -> Pattern:
        make: Callable[[tuple[Pattern, ...]], Pattern] = type(self)
        if isinstance(other, PatternGroup) and other.outer and not self.outer:
            return NotImplemented
        if not isinstance(other, type(self)):
            return make(tuple(operator(pattern, other) for pattern in self.patterns))
        if len(other.patterns) != len(self.patterns):
            raise ValueError(
                f"patterns: got groups of {len(self.patterns)} and {len(other.patterns)} for | or "
                f"&, expected {type(self).__name__}s with as many patterns; give both one per "
                f"{'block' if self.outer else 'head'}"
            )
        pairs = zip(self.patterns, other.patterns, strict=True)
        return make(tuple(operator(a, b) for a, b in pairs))


@dataclass(frozen=True)
class Union(Pattern):
    """The edges in any of the patterns; `part_mask` of the adjacency says in which."""

    patterns: tuple[Pattern, ...]

    def __post_init__(self) -> None:
        _check_operands(self)

    def __call__(self, batch: BatchLike) -> Adjacency:
        """Return the union of the patterns' adjacencies."""
        return _combine_cached(_union, *(pattern(batch) for pattern in self.patterns))


@dataclass(frozen=True)
class Intersection(Pattern):
    """The edges in all of the patterns."""

    patterns: tuple[Pattern, ...]

    def __post_init__(self) -> None:
        _check_operands(self)

    def __call__(self, batch: BatchLike) -> Adjacency:
        """Return the intersection of the patterns' adjacencies."""
        return _combine_cached(_intersection, *(pattern(batch) for pattern in self.patterns))


def over_samples(batch: BatchLike, make: Callable[..., Adjacency], *arguments: Any) -> Adjacency:
    """Return `make(sizes, *arguments)` for the sizes of the batch's samples, from the cache."""
    return over_layout(*sample_layout(batch), make, *arguments)


def over_layout(
    sizes: tuple[int, ...], order: Tensor | None, make: Callable[..., Adjacency], *arguments: Any
) -> Adjacency:
    """Return `make(sizes, *arguments)`, with nodes numbered as in the batch.

    Args:
        sizes: the number of nodes of each sample.
        order: the nodes ordered by sample, int64 [N], where samples are interleaved; else None.
        make: makes the adjacency of samples with consecutive nodes.
        arguments: further arguments of `make`; hashable.
    """
    # Compilers cannot trace the cache, nor hash symbolic sizes.
    cached = make if torch.compiler.is_compiling() else partial(cached_adjacency, make)
    adjacency = cached(sizes, *arguments)
    if order is None:
        return adjacency
    edges = order[adjacency.edge_index.to(order.device)]
    return CSR.from_edges(edges, adjacency.shape).canonical()


@lru_cache(maxsize=16)
def cached_adjacency(make: Callable[..., Adjacency], *arguments: Any) -> Adjacency:
    """Return `make(*arguments)`, computed once: equal batches share it and what it caches."""
    return make(*arguments)


@torch.compiler.disable(reason="set operations of adjacencies are computed eagerly, and cached")
@lru_cache(maxsize=16)
@torch.inference_mode(False)
def _combine_cached(combine: Callable[..., Adjacency], *operands: Adjacency) -> Adjacency:
    """Combine adjacencies once per layout, on the device of the explicit ones."""
    device = next((a.device for a in operands if isinstance(a, CSR)), operands[0].device)
    return combine(*(a.to(device) for a in operands))


def _union(*operands: Adjacency) -> Adjacency:
    return adjacency.union(operands)


def _intersection(*operands: Adjacency) -> Adjacency:
    return reduce(and_, operands)


def _operands(pattern: Pattern) -> tuple[Pattern, ...]:
    """The patterns of a union, so that a | b | c is one union of three."""
    return pattern.patterns if isinstance(pattern, Union) else (pattern,)


def _check_operands(pattern: Union | Intersection) -> None:
    object.__setattr__(pattern, "patterns", tuple(pattern.patterns))
    name = type(pattern).__name__
    if not pattern.patterns:
        raise ValueError(f"patterns: got none, expected at least one; give {name} its patterns")
    groups = [part for part in pattern.patterns if isinstance(part, PatternGroup)]
    if groups:
        raise ValueError(
            f"patterns: got a {type(groups[0]).__name__}, expected patterns that make one "
            f"adjacency each; combine them with | or &, or put the {name} inside"
        )
