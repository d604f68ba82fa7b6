"""Adjacencies whose edges are selected from queries and keys."""

from graphformer.adjacency.content.listed import ListedEdges
from graphformer.adjacency.content.rows import RowEdges
from graphformer.adjacency.content.selection import ContentAdjacency, Selection
from graphformer.adjacency.content.tiles import TiledEdges, Tiles

__all__ = ["ContentAdjacency", "ListedEdges", "RowEdges", "Selection", "TiledEdges", "Tiles"]
