"""Patterns: rules that make the adjacency for a batch. What a YAML file or a flag names.

A batch is anything with `lengths` (nodes a sample), PyG's `ptr` or at least `num_nodes`; `Grid`
wants `shapes`, `Edges` wants `edge_index`, `VirtualNode` wants `virtual_mask`. Patterns compose
with `|` and `&`.
"""

from graphformer.patterns.base import Intersection, Pattern, Union, lengths
from graphformer.patterns.basic import Causal, Complete, Edges, Grid, SelfLoops, Window
from graphformer.patterns.offsets import FixedEdges, Offsets
from graphformer.patterns.per_layer import PerHead, PerLayer
from graphformer.patterns.serialization import Learned, load_pattern, save_pattern
from graphformer.patterns.sparse import Dilated, Expander, GlobalNodes, Random, VirtualNode
from graphformer.patterns.text import Documents, Prefix

__all__ = [
    "Causal",
    "Complete",
    "Dilated",
    "Documents",
    "Edges",
    "Expander",
    "FixedEdges",
    "GlobalNodes",
    "Grid",
    "Intersection",
    "Learned",
    "Offsets",
    "Pattern",
    "PerHead",
    "PerLayer",
    "Prefix",
    "Random",
    "SelfLoops",
    "Union",
    "VirtualNode",
    "Window",
    "lengths",
    "load_pattern",
    "save_pattern",
]
