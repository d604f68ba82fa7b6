"""Samples of equal size, gathered: what turns a ragged batch into a few dense calls."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from graphformer.adjacency.base import Adjacency
    from graphformer.adjacency.blocks import Implicit


@dataclass(frozen=True, eq=False)
class Bucket:
    """The samples of one size in a batch.

    `targets`, `sources` and `edges` are the rows of its samples among those of the batch, sample
    by sample; None where the bucket is the whole batch.
    """

    block: Adjacency
    """The adjacency of one such sample."""
    count: int
    """How many samples there are."""
    targets: Tensor | None = None
    sources: Tensor | None = None
    edges: Tensor | None = None

    @cached_property
    def mask(self) -> Tensor:
        """The dense mask of one sample, bool [m, n]."""
        return self.block.to_mask()


def bucketed(adjacency: Implicit) -> list[Bucket]:
    """Gather the samples of an implicit adjacency by their size, sizes in order of appearance."""
    members: dict[tuple[int, int], list[int]] = {}
    for number, size in enumerate(adjacency.blocks):
        members.setdefault(size, []).append(number)
    if not members:
        return [Bucket(adjacency, 1)]
    single = {size: adjacency.with_blocks((size,)) for size in members}
    if len(members) == 1:
        ((size, numbers),) = members.items()
        return [Bucket(single[size], len(numbers))]
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
        rows = [
            _rows([start[number] for number in numbers], count, adjacency.device)
            for start, count in zip(starts, (*block.shape, block.num_edges), strict=True)
        ]
        buckets.append(Bucket(block, len(numbers), *rows))
    return buckets


def _rows(starts: list[int], count: int, device: torch.device) -> Tensor:
    first = torch.tensor(starts, device=device).unsqueeze(1)
    return (first + torch.arange(count, device=device)).flatten()
