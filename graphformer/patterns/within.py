"""`Within`: a pattern over the nodes of one type, such as a grid among the patches of a text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from graphformer import adjacency
from graphformer.adjacency import Adjacency
from graphformer.adjacency.from_tensor import cached_by_tensor
from graphformer.patterns.base import Pattern, PatternGroup
from graphformer.patterns.fields import Layout, lengths, require_tensor

if TYPE_CHECKING:
    from graphformer.batch_type import BatchLike


@dataclass(frozen=True)
class Within(Pattern):
    """The nodes of one type are connected by a pattern, as if the sample had no other nodes.

    `Within(0, Grid(1)) | Within(1, Causal()) | Between(target=1, source=0)` connects patches
    (type 0) in neighbourhoods and words (type 1) to the words before, and lets words attend to all
    patches. The nodes of the type have the pattern's order; those of other types may be between.

    Args:
        type: of the nodes, as in `batch.node_type`.
        pattern: reads the number of nodes of the type in each sample, and `batch.shapes`.

    Raises:
        ValueError: when the pattern gives each block or each head edges of its own.
    """

    type: int
    pattern: Pattern

    def __post_init__(self) -> None:
        if isinstance(self.pattern, PatternGroup):
            name = self.pattern.__class__.__name__
            raise ValueError(
                f"pattern: got a {name}, expected a pattern that makes one adjacency; put Within "
                f"inside the {name}"
            )

    def __call__(self, batch: BatchLike) -> Adjacency:
        """Return the edges among the nodes of the type; reads `batch.node_type`, int64 [N]."""
        types = require_tensor(batch, "node_type", "the pattern Within reads it")
        sizes = lengths(batch)
        shapes = getattr(batch, "shapes", None)
        key = None if shapes is None else tuple(tuple(map(int, shape)) for shape in shapes)

        def compute() -> Adjacency:
            nodes = (types == self.type).nonzero().flatten()
            ends = torch.tensor(sizes, device=types.device).cumsum(0)
            sample = torch.searchsorted(ends, nodes, right=True)
            counts = tuple(torch.bincount(sample, minlength=len(sizes)).tolist())
            part = Layout(counts, types.device, key)
            edges = self.pattern(part).edge_index
            return adjacency.from_edge_index(nodes[edges.to(nodes.device)], len(types))

        return cached_by_tensor(types, (self, sizes, key), compute)
