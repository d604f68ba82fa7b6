"""The prefix rule: bidirectional attention within a prefix of each sample, causal after it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.utils import _pytree

from graphformer.adjacency.cached_property import keeps_fields
from graphformer.adjacency.implicit import Boxes, Implicit


@keeps_fields
@dataclass(frozen=True, repr=False)
class Prefix(Implicit):
    """A target attends to the sources up to its own position and to its sample's whole prefix.

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
        """Return the sources up to the target or the end of the prefix, whichever is later."""
        block, position = self._positions(self.lengths)
        offset, sources = self._offsets()
        sizes = [size for _, size in self.blocks]
        prefix = torch.tensor(sizes, dtype=torch.int64, device=self.device)
        last = torch.minimum(torch.maximum(position, prefix[block] - 1), sources[block] - 1)
        return self._runs(offset[block], last + 1)


_pytree.register_constant(Prefix)
torch.serialization.add_safe_globals([Prefix])
