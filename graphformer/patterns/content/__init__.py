"""Patterns whose edges attention selects from its queries and keys, for each head."""

from graphformer.patterns.content.base import ContentPattern
from graphformer.patterns.content.lsh import LSH
from graphformer.patterns.content.nearest_neighbors import NearestNeighbors
from graphformer.patterns.content.top_blocks import TopBlocks

__all__ = ["LSH", "ContentPattern", "NearestNeighbors", "TopBlocks"]
