"""Patterns: rules that make the adjacency of a batch, named in YAML files and by flags.

A batch has `lengths` (nodes of each sample), PyG's `ptr` or `batch`, or only `num_nodes`; `Grid`
reads `shapes`, `Edges` reads `edge_index`, `VirtualNode` reads `virtual_mask`, `Between` and
`Within` read `node_type`. Patterns compose with `|` and `&`. `LSH`, `NearestNeighbors` and
`TopBlocks` select edges from queries and keys.
"""

from graphformer.patterns.adjacency_like import AdjacencyLike, resolve, resolve_single
from graphformer.patterns.base import Intersection, Pattern, Union
from graphformer.patterns.basic import Causal, Complete, Edges, Grid, SelfLoops, Window
from graphformer.patterns.between import Between
from graphformer.patterns.content import LSH, ContentPattern, NearestNeighbors, TopBlocks
from graphformer.patterns.fields import lengths
from graphformer.patterns.offsets import FixedEdges, Offsets
from graphformer.patterns.per_layer import PerHead, PerLayer
from graphformer.patterns.serialization import Learned, load_pattern, save_pattern
from graphformer.patterns.sparse import Dilated, Expander, GlobalNodes, Random, VirtualNode
from graphformer.patterns.text import Documents, Prefix
from graphformer.patterns.within import Within

__all__ = [
    "LSH",
    "AdjacencyLike",
    "Between",
    "Causal",
    "Complete",
    "ContentPattern",
    "Dilated",
    "Documents",
    "Edges",
    "Expander",
    "FixedEdges",
    "GlobalNodes",
    "Grid",
    "Intersection",
    "Learned",
    "NearestNeighbors",
    "Offsets",
    "Pattern",
    "PerHead",
    "PerLayer",
    "Prefix",
    "Random",
    "SelfLoops",
    "TopBlocks",
    "Union",
    "VirtualNode",
    "Window",
    "Within",
    "lengths",
    "load_pattern",
    "resolve",
    "resolve_single",
    "save_pattern",
]
