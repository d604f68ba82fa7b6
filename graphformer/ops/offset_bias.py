"""A bias on attention logits that depends only on how far a source is from its target."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from graphformer.adjacency import Adjacency, Bucket, Causal, Implicit


@dataclass(frozen=True, eq=False)
class OffsetBias:
    r"""The bias of a relative position, as a table by offset instead of one number per edge.

    .. math::
        b_{ij} = \mathrm{table}[\mathrm{clamp}(d, -R, R) + R] - \mathrm{slope} \max(|d| - R, 0),
        \qquad d = p_j - p_i

    Args:
        table: a bias for each offset from -R to R, [2R + 1, H].
        positions: p of the targets, integers [M]; by default the position of each in its sample.
        source_positions: p of the sources, integers [N]; those of the targets by default.
        slope: subtracted for each step past R, [H]; nothing by default.

    Raises:
        ValueError: when the table, the slope or the positions have another shape or dtype.

    Source: Raffel et al., 2020 (T5), section 2.1; Press et al., 2022 (ALiBi).
    """

    table: Tensor
    positions: Tensor | None = None
    source_positions: Tensor | None = None
    slope: Tensor | None = None

    def __post_init__(self) -> None:
        if self.table.ndim != 2 or len(self.table) % 2 == 0:
            raise ValueError(
                f"table: got {list(self.table.shape)}, expected [2R + 1, H], one row per offset "
                "from -R to R"
            )
        if self.slope is not None and self.slope.shape != self.table.shape[1:]:
            raise ValueError(
                f"slope: got {list(self.slope.shape)}, expected [{self.table.shape[1]}], one "
                "number per head of the table"
            )
        if self.positions is None and self.source_positions is not None:
            raise ValueError(
                "positions: got None with source_positions, expected integers [M]; pass both"
            )
        for name in ("positions", "source_positions"):
            value = getattr(self, name)
            if value is not None and (value.ndim != 1 or value.dtype.is_floating_point):
                raise ValueError(
                    f"{name}: got {value.dtype} {list(value.shape)}, expected one integer per node"
                )

    @property
    def reach(self) -> int:
        """R, the largest offset with a row of its own."""
        return len(self.table) // 2

    def at(self, offsets: Tensor) -> Tensor:
        """Return the biases of offsets [...], as [..., H]."""
        reach = self.reach
        # F.embedding, not indexing: its gradient is summed in a fixed order on all devices.
        bias = F.embedding(offsets.clamp(-reach, reach) + reach, self.table)
        if self.slope is not None:
            bias = bias - self.slope * (offsets.abs() - reach).clamp(min=0).unsqueeze(-1)
        return bias

    def of_heads(self, offsets: Tensor, heads: Tensor) -> Tensor:
        """Return the bias of each offset [...] in its head, int64 [...] of a shape to expand."""
        reach, count = self.reach, self.table.shape[1]
        heads = heads.clamp(max=count - 1)  # a table of one head is that of all
        rows = (offsets.clamp(-reach, reach) + reach) * count + heads
        bias = F.embedding(rows, self.table.reshape(-1, 1)).squeeze(-1)
        if self.slope is not None:
            bias = bias - self.slope[heads] * (offsets.abs() - reach).clamp(min=0)
        return bias

    def on_edges(self, adjacency: Adjacency) -> Tensor:
        """Return the bias of every edge, [E, H], in the caller's order."""
        source, target = adjacency.edge_index
        targets, sources = self.positions_on(adjacency)
        return self.at(sources[source] - targets[target])

    def on_block(self, adjacency: Adjacency, bucket: Bucket) -> Tensor:
        """Return the dense biases of a bucket's samples: [1, H, m, n], which all share.

        For positions that are passed, [count, H, m, n].
        """
        m, n = bucket.shape
        if self.positions is None and isinstance(adjacency, Implicit):
            return self.toeplitz(m, n, n - m if bucket.kernel == "causal" else 0).unsqueeze(0)
        targets, sources = self.positions_on(adjacency)
        targets = targets if bucket.targets is None else targets[bucket.targets]
        sources = sources if bucket.sources is None else sources[bucket.sources]
        offsets = sources.view(bucket.count, 1, n) - targets.view(bucket.count, m, 1)
        return self.at(offsets).permute(0, 3, 1, 2)

    def toeplitz(self, m: int, n: int, shift: int) -> Tensor:
        """Return the biases [H, m, n] of target i at position i + shift and source j at j.

        The entries depend on j - i only, so all rows are windows of one vector.
        """
        if not m or not n:
            return self.table.new_zeros(self.table.shape[1], m, n)
        first, last = 1 - m - shift, n - 1 - shift
        offsets = torch.arange(first, last + 1, device=self.table.device)
        return self.at(offsets).T.unfold(1, n, 1).flip(1)

    def positions_on(self, adjacency: Adjacency) -> tuple[Tensor, Tensor]:
        """Return the positions of targets [M] and sources [N]; default ones if none were passed.

        Raises:
            ValueError: when their numbers are not those of the adjacency's nodes.
        """
        if self.positions is None:
            return default_positions(adjacency)
        sources = self.positions if self.source_positions is None else self.source_positions
        sizes = len(self.positions), len(sources)
        if sizes != tuple(adjacency.shape):
            raise ValueError(
                f"positions, source_positions: got {sizes[0]} and {sizes[1]}, expected one for "
                f"each of {adjacency.shape[0]} targets and {adjacency.shape[1]} sources"
            )
        return self.positions, sources


def default_positions(adjacency: Adjacency) -> tuple[Tensor, Tensor]:
    """Return the position of every target [M] and source [N] in its sample, int64.

    A causal adjacency with more sources than targets is aligned at the end: its last target has
    the position of its last source. Explicit edges count as those of one sample with nodes in
    order, which gives correct offsets between nodes of one sample of a batch, too.

    Raises:
        ValueError: when explicit edges have different numbers of targets and sources.
    """
    if not isinstance(adjacency, Implicit):
        count, others = adjacency.shape
        if count != others:
            raise ValueError(
                f"positions: got None for explicit edges of {count} targets and {others} sources, "
                "expected integers; pass positions and source_positions"
            )
        nodes = torch.arange(count, device=adjacency.device)
        return nodes, nodes
    lengths, source_lengths = adjacency.lengths, adjacency.source_lengths
    sources = _last_positions(source_lengths, source_lengths, adjacency.device)
    if lengths == source_lengths:
        return sources, sources
    ends = source_lengths if isinstance(adjacency, Causal) else lengths
    return _last_positions(lengths, ends, adjacency.device), sources


def _last_positions(
    lengths: tuple[int, ...], ends: tuple[int, ...], device: torch.device
) -> Tensor:
    """The last `length` positions before each end, int64 [sum(lengths)]."""
    sizes = torch.tensor(lengths, dtype=torch.int64, device=device)
    shift = torch.tensor(ends, dtype=torch.int64, device=device) - sizes.cumsum(0)
    total = sum(lengths)
    return torch.arange(total, device=device) + shift.repeat_interleave(sizes, output_size=total)
