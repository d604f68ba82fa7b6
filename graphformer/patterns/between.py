"""`Between`: edges from the nodes of one type to those of another, such as patches to words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from graphformer import adjacency
from graphformer.adjacency import Adjacency
from graphformer.adjacency.from_tensor import cached_by_tensor
from graphformer.patterns.base import Pattern
from graphformer.patterns.fields import require_tensor, sample_layout

if TYPE_CHECKING:
    from graphformer.batch_type import BatchLike


@dataclass(frozen=True)
class Between(Pattern):
    """Every node of type `target` attends to all nodes of type `source` of its sample.

    In a batch of `data.place`, the type of a node is the number of its segment, so that
    `Between(target=0, source=1)` lets the first modality attend to the second.

    Args:
        target, source: types of nodes, as in `batch.node_type`.
    """

    target: int
    source: int

    def __call__(self, batch: BatchLike) -> Adjacency:
        """Return the edges between both types; reads `batch.node_type`, int64 [N]."""
        types = require_tensor(batch, "node_type", "the pattern Between reads it")
        sizes, order = sample_layout(batch)

        def compute() -> Adjacency:
            sample = torch.arange(len(sizes), device=types.device).repeat_interleave(
                torch.tensor(sizes, device=types.device)
            )
            if order is not None:
                sample = torch.empty_like(sample).index_copy_(0, order, sample)
            edges = self._edges(types, sample, len(sizes))
            return adjacency.from_edge_index(edges, len(types))

        return cached_by_tensor(types, (self, sizes), compute)

    def _edges(self, types: Tensor, sample: Tensor, num_samples: int) -> Tensor:
        """Return the edges [2, E]: for each target, the sources of its sample."""
        targets, sources = (
            (types == kind).nonzero().flatten() for kind in (self.target, self.source)
        )
        sources = sources[sample[sources].argsort(stable=True)]
        counts = torch.bincount(sample[sources], minlength=num_samples)  # sources by sample
        starts = counts.cumsum(0) - counts
        degrees = counts[sample[targets]]
        # The edges of a target are numbered 0 .. degree - 1, from the first source of its sample.
        first = (degrees.cumsum(0) - degrees).repeat_interleave(degrees)
        rank = torch.arange(len(first), device=types.device) - first
        rank = rank + starts[sample[targets]].repeat_interleave(degrees)
        return torch.stack([sources[rank], targets.repeat_interleave(degrees)])
