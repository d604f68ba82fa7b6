"""Who attends to whom: adjacencies, their algebra and conversions."""

from graphformer.adjacency.base import Adjacency
from graphformer.adjacency.blocks import Causal, Complete, Grid, Implicit, Window
from graphformer.adjacency.buckets import Bucket
from graphformer.adjacency.build import (
    batch,
    causal,
    complete,
    from_edge_index,
    from_mask,
    from_networkx,
    grid,
    networkx_values,
    window,
)
from graphformer.adjacency.convert import as_adjacency
from graphformer.adjacency.csr import CSR, BySource
from graphformer.adjacency.heads import HeadEdges
from graphformer.adjacency.union import union
from graphformer.adjacency.values import edge_values

__all__ = [
    "CSR",
    "Adjacency",
    "Bucket",
    "BySource",
    "Causal",
    "Complete",
    "Grid",
    "HeadEdges",
    "Implicit",
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
