"""The base of patterns over content, and samples grouped by size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import torch
from torch import Tensor

from graphformer.adjacency import Adjacency, ContentAdjacency
from graphformer.patterns.base import Pattern, PatternGroup
from graphformer.patterns.basic import Causal, Complete
from graphformer.patterns.fields import device_of, lengths

if TYPE_CHECKING:
    from graphformer.batch_type import BatchLike


class ContentPattern(Pattern):
    """A pattern whose edges depend on the queries and keys of attention.

    A subclass is a frozen dataclass with the field `causal`, which defines `select` and `mask`, as
    `graphformer.adjacency.Selection` describes them. `pattern & Causal()` is the causal one.
    """

    is_combined_by_itself: ClassVar[bool] = True
    causal: bool

    def __call__(self, batch: BatchLike) -> Adjacency:
        """Return an adjacency from which attention selects the edges within each sample."""
        return ContentAdjacency(lengths(batch), self, device_of(batch))

    def in_training(self) -> ContentPattern:
        """Return the pattern for a call through which gradients flow."""
        return self

    def select(self, q: Tensor, k: Tensor, lengths: tuple[int, ...]) -> Adjacency:
        """Return the edges of queries [N, H, D] and keys [N, Hkv, D], N x N."""
        raise NotImplementedError

    def mask(self, q: Tensor, k: Tensor, first: int = 0) -> Tensor:
        """Return the sources of the targets from `first` of one sample, bool [H, n - first, n]."""
        raise NotImplementedError

    def __or__(self, other: Pattern) -> Pattern:
        """Refuse: the edges of the union would have to be listed in every call.

        Raises:
            ValueError: for any pattern but a group, which combines each of its own with this one.
        """
        if isinstance(other, PatternGroup):
            return NotImplemented
        raise _not_composed(self, other, "|")

    def __ror__(self, other: Pattern) -> Pattern:
        """Refuse, as `|` does."""
        raise _not_composed(self, other, "|")

    def __and__(self, other: Pattern) -> Pattern:
        """Return the causal pattern for `Causal`, this one for `Complete`.

        Raises:
            ValueError: for other patterns.
        """
        if isinstance(other, PatternGroup):
            return NotImplemented
        if isinstance(other, Causal):
            return replace(self, causal=True)  # type: ignore[type-var]
        if isinstance(other, Complete):
            return self
        raise _not_composed(self, other, "&")

    def __rand__(self, other: Pattern) -> Pattern:
        """Return `self & other`."""
        return self & other


def _not_composed(pattern: Pattern, other: Pattern, sign: str) -> ValueError:
    return ValueError(
        f"patterns: got {pattern} {sign} {other}, expected a pattern made from content alone; give "
        "each block its own pattern with PerLayer, or use the pattern's arguments"
    )


class Group(NamedTuple):
    """The samples of one size n, c of them."""

    size: int
    nodes: Tensor
    """Their nodes, int64 [c, n]."""


def groups(lengths: tuple[int, ...], device: torch.device) -> Iterator[Group]:
    """Yield the samples grouped by size; empty samples are left out."""
    sizes = torch.tensor(lengths, dtype=torch.int64)
    starts = sizes.cumsum(0) - sizes
    for size in sorted(set(lengths) - {0}):
        first = starts[sizes == size].unsqueeze(1)
        yield Group(size, (first + torch.arange(size)).to(device))


def by_head(x: Tensor, group: Group) -> Tensor:
    """Return the rows of a group of x [N, H, D] as [c, H, n, D], a view of all nodes if it can."""
    if group.nodes.numel() == len(x):  # groups of several sizes have fewer nodes
        return x.unflatten(0, group.nodes.shape).transpose(1, 2)
    return x[group.nodes].transpose(1, 2)


def head_rows(nodes: Tensor, num_heads: int, num_nodes: int) -> Tensor:
    """Return the rows h N + i of nodes [c, ...] in each head, int64 [c, H, ...]."""
    head = torch.arange(num_heads, device=nodes.device) * num_nodes
    return nodes.unsqueeze(1) + head.view(1, -1, *[1] * (nodes.ndim - 1))


def wide(x: Tensor) -> Tensor:
    """Return half precision as float32, in which products do not overflow."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def check_positive(**values: int) -> None:
    """Check that settings are integers of at least 1.

    Raises:
        ValueError: when one is not; the message names it.
    """
    for name, value in values.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name}: got {value!r}, expected an integer of at least 1")
