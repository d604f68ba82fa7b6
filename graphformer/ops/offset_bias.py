"""A bias on attention logits that depends only on how far a source is from its target."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from graphformer.adjacency import Adjacency, Bucket, Causal, Implicit


@dataclass(frozen=True, eq=False)
class OffsetBias:
    r"""The bias of a relative position, given as a rule: no number an edge is ever stored for it.

    .. math::
        b_{ij} = \mathrm{table}[\mathrm{clamp}(d, -R, R) + R] - \mathrm{slope} \max(|d| - R, 0),
        \qquad d = p_j - p_i

    Args:
        table: one bias an offset from -R to R, [2R + 1, H].
        positions: p of the targets, integers [M]; by default the place of each in its sample.
        source_positions: p of the sources, integers [N]; those of the targets by default.
        slope: what each step past R costs, [H]; nothing by default.

    Raises ValueError or TypeError for tables and positions of other shapes and types.

    Source: Raffel et al., 2020 (T5), section 2.1; Press et al., 2022 (ALiBi).
    """

    table: Tensor
    positions: Tensor | None = None
    source_positions: Tensor | None = None
    slope: Tensor | None = None

    def __post_init__(self) -> None:
        if self.table.ndim != 2 or len(self.table) % 2 == 0:
            raise ValueError(
                f"table must be [2R + 1, H], a row an offset from -R to R, got "
                f"{list(self.table.shape)}"
            )
        if self.slope is not None and self.slope.shape != self.table.shape[1:]:
            raise ValueError(
                f"slope must be [{self.table.shape[1]}], one a head of table, got "
                f"{list(self.slope.shape)}"
            )
        if self.positions is None and self.source_positions is not None:
            raise ValueError("source_positions are given without positions: give both")
        for name in ("positions", "source_positions"):
            places = getattr(self, name)
            if places is not None and (places.ndim != 1 or places.dtype.is_floating_point):
                raise ValueError(
                    f"{name} must be integers, one a node, got {places.dtype} {list(places.shape)}"
                )

    @property
    def reach(self) -> int:
        """R, the largest offset that the table tells apart."""
        return len(self.table) // 2

    def at(self, offsets: Tensor) -> Tensor:
        """The biases of offsets [...], [..., H]."""
        reach = self.reach
        # An embedding's gradient adds up in one order, whatever the device.
        bias = F.embedding(offsets.clamp(-reach, reach) + reach, self.table)
        if self.slope is not None:
            bias = bias - self.slope * (offsets.abs() - reach).clamp(min=0).unsqueeze(-1)
        return bias

    def on_edges(self, adjacency: Adjacency) -> Tensor:
        """The bias of every edge, [E, H], in the caller's order."""
        source, target = adjacency.edge_index
        targets, sources = self._positions(adjacency)
        return self.at(sources[source] - targets[target])

    def on_block(self, adjacency: Adjacency, bucket: Bucket) -> Tensor:
        """The dense biases of a bucket's samples, [1, H, m, n] where all share them.

        That is so for default positions; for others it is [count, H, m, n].
        """
        m, n = bucket.shape
        if self.positions is None and isinstance(adjacency, Implicit):
            return self.toeplitz(m, n, n - m if bucket.kernel == "causal" else 0).unsqueeze(0)
        targets, sources = self._positions(adjacency)
        targets = targets if bucket.targets is None else targets[bucket.targets]
        sources = sources if bucket.sources is None else sources[bucket.sources]
        offsets = sources.view(bucket.count, 1, n) - targets.view(bucket.count, m, 1)
        return self.at(offsets).permute(0, 3, 1, 2)

    def toeplitz(self, m: int, n: int, shift: int) -> Tensor:
        """The biases of neighbouring places, [H, m, n]: target i is at i + shift, source j at j.

        Each row is the one before it, one place further: all are windows of one vector.
        """
        if not m or not n:
            return self.table.new_zeros(self.table.shape[1], m, n)
        first, last = 1 - m - shift, n - 1 - shift
        offsets = torch.arange(first, last + 1, device=self.table.device)
        return self.at(offsets).T.unfold(1, n, 1).flip(1)

    def _positions(self, adjacency: Adjacency) -> tuple[Tensor, Tensor]:
        if self.positions is None:
            return places(adjacency)
        sources = self.positions if self.source_positions is None else self.source_positions
        sizes = len(self.positions), len(sources)
        if sizes != tuple(adjacency.shape):
            raise ValueError(
                f"positions must name the {adjacency.shape[0]} targets and source_positions the "
                f"{adjacency.shape[1]} sources, got {sizes[0]} and {sizes[1]}"
            )
        return self.positions, sources


def places(adjacency: Adjacency) -> tuple[Tensor, Tensor]:
    """The place of every target [M] and source [N] in its sample, int64.

    A causal adjacency with more sources than targets is aligned at the end: its last target is at
    the place of its last source. Explicit edges are taken for those of one sample, whose nodes are
    numbered in order; so offsets between nodes of one sample of a batch are right as well.

    Raises ValueError for explicit edges between targets and sources of different number.
    """
    if not isinstance(adjacency, Implicit):
        count, others = adjacency.shape
        if count != others:
            raise ValueError(
                f"positions are needed: the {count} targets and {others} sources of explicit "
                "edges have no places of their own; pass positions and source_positions"
            )
        nodes = torch.arange(count, device=adjacency.device)
        return nodes, nodes
    lengths, source_lengths = adjacency.lengths, adjacency.source_lengths
    sources = _places(source_lengths, source_lengths, adjacency.device)
    if lengths == source_lengths:
        return sources, sources
    ends = source_lengths if isinstance(adjacency, Causal) else lengths
    return _places(lengths, ends, adjacency.device), sources


def _places(lengths: tuple[int, ...], ends: tuple[int, ...], device: torch.device) -> Tensor:
    """The last `length` places before each end, int64 [sum(lengths)]."""
    sizes = torch.tensor(lengths, dtype=torch.int64, device=device)
    shift = torch.tensor(ends, dtype=torch.int64, device=device) - sizes.cumsum(0)
    total = sum(lengths)
    return torch.arange(total, device=device) + shift.repeat_interleave(sizes, output_size=total)
