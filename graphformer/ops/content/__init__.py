"""Attention over edges that are selected from queries and keys."""

from graphformer.ops.content.listed_rows import row_attention
from graphformer.ops.content.selection import select_edges
from graphformer.ops.content.tiled import tiled_attention

__all__ = ["row_attention", "select_edges", "tiled_attention"]
