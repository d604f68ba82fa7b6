"""The prefix rule: the start of every sample sees itself whole, the rest looks back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.utils import _pytree

from graphformer.adjacency.implicit import Boxes, Implicit


@dataclass(frozen=True, repr=False)
class Prefix(Implicit):
    """A target attends to the sources up to its own place, and to all of its sample's prefix.

    A block is (nodes of the sample, nodes of its prefix).
    """

    @property
    def lengths(self) -> tuple[int, ...]:
        """The number of nodes of each sample."""
        return tuple(length for length, _ in self.blocks)

    @property
    def source_lengths(self) -> tuple[int, ...]:
        """The number of nodes of each sample."""
        return self.lengths

    def boxes(self) -> Boxes:
        """The sources of every target."""
        block, place = self._places(self.lengths)
        offset, sources = self._offsets()
        sizes = [size for _, size in self.blocks]
        prefix = torch.tensor(sizes, dtype=torch.int64, device=self.device)
        last = torch.minimum(torch.maximum(place, prefix[block] - 1), sources[block] - 1)
        return self._runs(offset[block], last + 1)


_pytree.register_constant(Prefix)
