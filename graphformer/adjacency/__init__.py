"""Adjacencies, which say which sources each target attends to; their algebra and conversions."""

from typing import TYPE_CHECKING

from graphformer.adjacency.base import Adjacency, Bucket, union
from graphformer.adjacency.constructors import (
    batch,
    causal,
    complete,
    from_edge_index,
    from_mask,
    grid,
    window,
)
from graphformer.adjacency.content import (
    ContentAdjacency,
    ListedEdges,
    RowEdges,
    Selection,
    TiledEdges,
    Tiles,
)
from graphformer.adjacency.csr import CSC, CSR
from graphformer.adjacency.edge_values import edge_values
from graphformer.adjacency.from_networkx import from_networkx, networkx_values
from graphformer.adjacency.from_tensor import as_adjacency
from graphformer.adjacency.heads import HeadEdges
from graphformer.adjacency.implicit import Causal, Complete, Grid, Implicit, Window
from graphformer.deprecated import renamed_exports

if not TYPE_CHECKING:
    __getattr__ = renamed_exports(__name__, {"BySource": "CSC"})

__all__ = [
    "CSR",
    "Adjacency",
    "Bucket",
    "CSC",
    "Causal",
    "Complete",
    "ContentAdjacency",
    "Grid",
    "HeadEdges",
    "Implicit",
    "ListedEdges",
    "RowEdges",
    "Selection",
    "TiledEdges",
    "Tiles",
    "Window",
    "as_adjacency",
    "batch",
    "causal",
    "complete",
    "edge_values",
    "from_edge_index",
    "from_mask",
    "from_networkx",
    "grid",
    "networkx_values",
    "union",
    "window",
]
