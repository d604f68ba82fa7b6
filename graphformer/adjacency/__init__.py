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
    window,
)
from graphformer.adjacency.csr import CSR, BySource

__all__ = [
    "CSR",
    "Adjacency",
    "Bucket",
    "BySource",
    "Causal",
    "Complete",
    "Grid",
    "Implicit",
    "Window",
    "batch",
    "causal",
    "complete",
    "from_edge_index",
    "from_mask",
    "from_networkx",
    "grid",
    "window",
]
