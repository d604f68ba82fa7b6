"""Samples of equal size, gathered: what turns a ragged batch into a few dense calls."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

if TYPE_CHECKING:
    from graphformer.adjacency.base import Adjacency
    from graphformer.adjacency.blocks import Implicit


@dataclass(frozen=True, eq=False)
class Bucket:
    """The samples of one size in a batch.

    `targets` and `sources` are the rows of its samples among those of the batch, sample by sample;
    None where the bucket is the whole batch.
    """

    block: Adjacency
    """The adjacency of one such sample."""
    count: int
    """How many samples there are."""
    shape: tuple[int, int]
    """(targets m, sources n) of one sample."""
    num_edges: int
    """The edges of one sample."""
    kernel: Literal["complete", "causal"] | None = None
    """The rule as dense attention kernels know it, if they do."""
    targets: Tensor | None = None
    sources: Tensor | None = None
    first_edges: Tensor | None = None
    """The number of each sample's first edge, [count]."""

    @property
    def edges(self) -> Tensor | None:
        """The edges of its samples among those of the batch; made anew, for there may be N^2."""
        if self.first_edges is None:
            return None
        return _rows(self.first_edges, self.num_edges)


def bucketed(adjacency: Implicit) -> list[Bucket]:
    """Gather the samples of an implicit adjacency by their size, sizes in order of appearance."""
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
        rows = _rows(targets, block.shape[0]), _rows(sources, block.shape[1])
        facts = len(numbers), block.shape, block.num_edges, block.kernel
        buckets.append(Bucket(block, *facts, *rows, edges))
    return buckets


def _rows(starts: Tensor, count: int) -> Tensor:
    return (starts.unsqueeze(1) + torch.arange(count, device=starts.device)).flatten()
