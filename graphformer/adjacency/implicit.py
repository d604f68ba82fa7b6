"""Implicit adjacencies: rules over blocks, one per sample, whose edges are not stored.

In every rule a target attends to a *box* of its block: `height` runs of `width` consecutive
sources, `stride` apart. A window of a sequence is a box of height one, a grid neighbourhood a box
of rows and columns. Counting and listing the edges of all rules therefore take one function each.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import accumulate
from operator import index
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree
from torch.utils._python_dispatch import _disable_current_modes
from typing_extensions import Self

from graphformer.adjacency.base import (
    Adjacency,
    Bucket,
    consecutive_rows,
    transposed_parts,
)
from graphformer.adjacency.cached_property import (
    cached_property,
    compute_uncached,
    keeps_fields,
    untraced,
)
from graphformer.adjacency.csr import CSR, _index_dtype


class Boxes(NamedTuple):
    """The sources `first + row * stride + column` of each target; all fields int64 [M]."""

    first: Tensor
    height: Tensor
    width: Tensor
    stride: Tensor


@keeps_fields
@dataclass(frozen=True, repr=False)
class Implicit(Adjacency):
    """A rule that connects nodes within blocks; the base of the rules below."""

    blocks: tuple[tuple[int, int], ...]
    """The size of each sample: (targets, sources), for a grid (height, width)."""
    device: torch.device = field(default=torch.device("cpu"), kw_only=True)
    parts: tuple[Adjacency, ...] = field(default=(), kw_only=True)

    kernel: ClassVar[Literal["complete", "causal"] | None] = None
    """The name of the rule in dense attention kernels, None if they do not have it."""
    setting_names: ClassVar[tuple[str, ...]] = ()
    """The fields of the rule, in addition to those of all rules."""

    # Implemented by the subclasses ---------------------------------------------------------------

    def boxes(self) -> Boxes:
        """Return the sources of every target."""
        raise NotImplementedError

    # Shared by all ------------------------------------------------------------------------------

    @property
    def lengths(self) -> tuple[int, ...]:
        """The number of targets of each sample."""
        return tuple(targets for targets, _ in self.blocks)

    @property
    def source_lengths(self) -> tuple[int, ...]:
        """The number of sources of each sample."""
        return tuple(sources for _, sources in self.blocks)

    @cached_property
    def shape(self) -> tuple[int, int]:
        """(targets M, sources N)."""
        return sum(self.lengths), sum(self.source_lengths)

    @cached_property
    def num_edges(self) -> int:
        """The number of edges E, counted without listing them."""
        rule = self.to("cpu") if self.device.type == "meta" else self
        _, height, width, _ = rule.boxes()
        return int((height * width).sum())

    @cached_property
    def block_density(self) -> float:
        """The share of the possible edges within samples that is present."""
        possible = sum(m * n for m, n in zip(self.lengths, self.source_lengths, strict=True))
        return self.num_edges / possible if possible else 0.0

    @cached_property
    def buckets(self) -> list[Bucket]:
        """The samples grouped by size."""
        return group_by_size(self)

    @cached_property
    def T(self) -> Adjacency:  # noqa: N802
        """The reversed edges, ordered by target, then source."""
        return self.to_csr().T.canonical()

    def to(self, device: torch.device | str) -> Self:
        """Return this adjacency on `device`, the same object each time."""
        device = torch.empty(0, device=device).device
        if device == self.device:
            return self
        copies = self.__dict__.setdefault("_copies", {})
        if device not in copies:
            copies[device] = replace(self, device=device)
        return copies[device]

    def with_blocks(self, blocks: tuple[tuple[int, int], ...]) -> Self:
        """Return the same rule over other blocks."""
        return replace(self, blocks=blocks, parts=())

    def to_csr(self) -> CSR:
        """Return the edges, ordered by target, then source; cached."""
        return self._csr

    def to_mask(self) -> Tensor:
        """Return the dense bool mask [M, N], true where target i attends to source j."""
        if not self.has_symbolic_sizes:
            return super().to_mask()
        target = torch.arange(self.shape[0], device=self.device).unsqueeze(1)
        return self._contains(target, torch.arange(self.shape[1], device=self.device))

    @cached_property
    def _csr(self) -> CSR:
        first, height, width, stride = self.boxes()
        degree = height * width
        indptr = torch.zeros(self.shape[0] + 1, dtype=torch.int64, device=self.device)
        torch.cumsum(degree, 0, out=indptr[1:])
        nodes = torch.arange(self.shape[0], device=self.device)
        target = nodes.repeat_interleave(degree, output_size=self.num_edges)
        # Edge number within the row -> row and column of the box -> source.
        rank = torch.arange(self.num_edges, device=self.device) - indptr[target]
        row = rank // width[target]
        indices = first[target] + row * stride[target] + rank - row * width[target]
        dtype = _index_dtype(self.num_edges, *self.shape)
        csr = CSR(indptr.to(dtype), indices.to(dtype), self.shape, parts=self.parts)
        csr.__dict__["target"] = target
        return csr

    def _contains(self, target: Tensor, source: Tensor) -> Tensor:
        first, height, width, stride = (part[target] for part in self.boxes())
        distance = source - first
        row, column = distance // stride, distance % stride
        return (distance >= 0) & (row < height) & (column < width)

    # A rule is a constant of a compiled or exported program, guarded by its fields. Its cached
    # values are computed from real tensors while the program is traced, are stored in `_cache`,
    # which is not guarded, and are constants too. If a size is a symbol (torch.export with a
    # dynamic number of nodes), they are computed by the program instead.

    def _compute(self, name: str) -> Any:
        if self.has_symbolic_sizes:
            return compute_uncached(self, name)
        if not torch.compiler.is_dynamo_compiling():
            return self._compute_cached(name)
        if name == "T":  # a rule or a CSR, which cannot be a constant
            return type(self).T.compute(self)
        return _constant(type(self), self._settings(), name)

    def _compute_cached(self, name: str) -> Any:
        values = self.__dict__.setdefault("_cache", {})
        if name not in values:
            with _disable_current_modes(), untraced():
                values[name] = compute_uncached(self, name)
        return values[name]

    def _settings(self) -> tuple[Any, ...]:
        """The fields but for `parts`, which do not change the edges: blocks, device, others."""
        # `index` makes constants of numbers that a compiler takes for variables.
        blocks = tuple((index(first), index(second)) for first, second in self.blocks)
        return (blocks, self.device, *(index(getattr(self, name)) for name in self.setting_names))

    @property
    def has_symbolic_sizes(self) -> bool:
        """Whether a size is a symbol of torch.export, which has no number."""
        return any(isinstance(size, torch.SymInt) for block in self.blocks for size in block)

    def bucket_mask(self, number: int) -> Tensor:
        """The dense mask of one sample of a bucket, bool [m, n]; cached, so it must not change."""
        if torch.compiler.is_dynamo_compiling():
            return _constant_mask(type(self), self._settings(), number)[0]
        return self.buckets[number].block.dense_mask

    def _positions(self, lengths: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """The block of every target and its position in the block, int64 [M]."""
        if len(lengths) == 1:  # its size may be a symbol
            position = torch.arange(lengths[0], device=self.device)
            return torch.zeros_like(position), position
        sizes = torch.tensor(lengths, dtype=torch.int64, device=self.device)
        numbers = torch.arange(len(lengths), device=self.device)
        block = numbers.repeat_interleave(sizes, output_size=sum(lengths))
        start = sizes.cumsum(0) - sizes
        return block, torch.arange(len(block), device=self.device) - start[block]

    def _offsets(self) -> tuple[Tensor, Tensor]:
        """The first source of every block and the number of its sources, int64 [B]."""
        sizes = _as_tensor(self.source_lengths, self.device)
        return sizes.cumsum(0) - sizes, sizes

    def _runs(self, first: Tensor, width: Tensor) -> Boxes:
        """Boxes of one run; the stride is at least as long as any run."""
        one = torch.ones_like(first)
        return Boxes(first, one, width, one * max(self.shape[1], 1))


class Complete(Implicit):
    """Every target attends to every source of its sample."""

    kernel = "complete"

    def boxes(self) -> Boxes:
        """Return all sources of the target's block."""
        block, _ = self._positions(self.lengths)
        offset, sources = self._offsets()
        return self._runs(offset[block], sources[block])

    @cached_property
    def T(self) -> Complete:  # noqa: N802
        """The complete graph with sources and targets exchanged."""
        blocks = tuple((sources, targets) for targets, sources in self.blocks)
        return replace(self, blocks=blocks, parts=transposed_parts(self))


class Causal(Implicit):
    """Target t of m attends to the sources up to t + n - m, of n: aligned at the end."""

    kernel = "causal"

    def boxes(self) -> Boxes:
        """Return the sources up to the target's position."""
        block, position = self._positions(self.lengths)
        offset, sources = self._offsets()
        targets = _as_tensor(self.lengths, self.device)
        width = (position + 1 + (sources - targets)[block]).clamp(min=0)
        return self._runs(offset[block], width)


@keeps_fields
@dataclass(frozen=True, repr=False)
class Window(Implicit):
    """A node attends to nodes at most `radius` away; if `causal`, only to earlier ones."""

    setting_names: ClassVar[tuple[str, ...]] = ("radius", "causal")

    radius: int = field(kw_only=True)
    causal: bool = field(default=False, kw_only=True)

    def boxes(self) -> Boxes:
        """Return the sources within the radius."""
        block, position = self._positions(self.lengths)
        offset, sources = self._offsets()
        first = (position - self.radius).clamp(min=0)
        last = position
        if not self.causal:
            last = torch.minimum(position + self.radius, sources[block] - 1)
        return self._runs(offset[block] + first, last - first + 1)

    @cached_property
    def T(self) -> Adjacency:  # noqa: N802
        """The reversed edges: itself, unless causal or a union."""
        if self.causal:
            return self.to_csr().T.canonical()
        return replace(self, parts=transposed_parts(self)) if self.parts else self


@keeps_fields
@dataclass(frozen=True, repr=False)
class Grid(Implicit):
    """A node attends to nodes at most `radius` rows and columns away (Chebyshev distance)."""

    setting_names: ClassVar[tuple[str, ...]] = ("radius",)

    radius: int = field(kw_only=True)

    @property
    def lengths(self) -> tuple[int, ...]:
        """The number of nodes of each sample."""
        return tuple(height * width for height, width in self.blocks)

    @property
    def source_lengths(self) -> tuple[int, ...]:
        """The number of nodes of each sample."""
        return self.lengths

    def boxes(self) -> Boxes:
        """Return the rows and columns within the radius."""
        block, position = self._positions(self.lengths)
        offset, _ = self._offsets()
        size = torch.tensor(self.blocks, dtype=torch.int64, device=self.device).reshape(-1, 2)
        rows, columns = size[block].unbind(1)
        y, x = position // columns, position % columns
        top, left = (y - self.radius).clamp(min=0), (x - self.radius).clamp(min=0)
        bottom = torch.minimum(y + self.radius, rows - 1)
        right = torch.minimum(x + self.radius, columns - 1)
        first = offset[block] + top * columns + left
        return Boxes(first, bottom - top + 1, right - left + 1, columns)

    @cached_property
    def T(self) -> Grid:  # noqa: N802
        """The reversed edges: itself, unless a union."""
        return replace(self, parts=transposed_parts(self)) if self.parts else self


# torch.export treats an implicit adjacency as a constant of the program: it has no tensors.
for _rule in (Complete, Causal, Window, Grid):
    _pytree.register_constant(_rule)
torch.serialization.add_safe_globals([Complete, Causal, Window, Grid])


@lru_cache(maxsize=64)
def _shared_rule(kind: type[Implicit], settings: tuple[Any, ...]) -> Implicit:
    """The rule with these `_settings`, one object for all programs that have it as a constant."""
    blocks, device, *others = settings
    return kind(blocks, device=device, **dict(zip(kind.setting_names, others, strict=True)))


@torch.compiler.assume_constant_result
def _constant(kind: type[Implicit], settings: tuple[Any, ...], name: str) -> Any:
    """A cached property of a rule that is made inside a compiled function."""
    return _shared_rule(kind, settings)._compute_cached(name)  # type: ignore[arg-type]


@torch.compiler.assume_constant_result
def _constant_mask(kind: type[Implicit], settings: tuple[Any, ...], number: int) -> list[Tensor]:
    """`bucket_mask`, in a list, as torch.compile mixes up constants that are single tensors."""
    return [_shared_rule(kind, settings).bucket_mask(number)]  # type: ignore[arg-type]


def _as_tensor(sizes: tuple[int, ...], device: torch.device) -> Tensor:
    """The sizes as int64 [B]; a single one may be a symbol."""
    if len(sizes) == 1:
        return torch.full((1,), sizes[0], dtype=torch.int64, device=device)
    return torch.tensor(sizes, dtype=torch.int64, device=device)


def group_by_size(adjacency: Implicit) -> list[Bucket]:
    """Group the samples of an implicit adjacency by size, in order of first occurrence."""
    if len(adjacency.blocks) == 1:
        # Its edges are needed for values on edges only, which rules of symbolic size do not have.
        count = 0 if adjacency.has_symbolic_sizes else adjacency.num_edges
        return [Bucket(adjacency, 1, adjacency.shape, count, adjacency.kernel)]
    if adjacency.has_symbolic_sizes:
        raise ValueError(
            "lengths: got several samples of symbolic length, expected a single one for a dynamic "
            "number of nodes; export with fixed lengths, or with one sample"
        )
    members: dict[tuple[int, int], list[int]] = {}
    for number, size in enumerate(adjacency.blocks):
        members.setdefault(size, []).append(number)
    if not members:
        return [Bucket(adjacency, 1, (0, 0), 0)]
    single = {size: adjacency.with_blocks((size,)) for size in members}
    if len(members) == 1:
        ((size, numbers),) = members.items()
        block = single[size]
        return [Bucket(block, len(numbers), block.shape, block.num_edges, block.kernel)]
    starts = [
        list(accumulate(counts, initial=0))
        for counts in (
            adjacency.lengths,
            adjacency.source_lengths,
            [single[size].num_edges for size in adjacency.blocks],
        )
    ]
    buckets = []
    for size, numbers in members.items():
        block = single[size]
        targets, sources, edges = (
            torch.tensor([start[number] for number in numbers], device=adjacency.device)
            for start in starts
        )
        rows = consecutive_rows(targets, block.shape[0]), consecutive_rows(sources, block.shape[1])
        settings = len(numbers), block.shape, block.num_edges, block.kernel
        buckets.append(Bucket(block, *settings, *rows, edges))
    return buckets
