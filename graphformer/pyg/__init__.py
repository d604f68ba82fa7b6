"""PyG's attention layers and models on the fused attention.

`graphformer.accelerate(model)` replaces the layers of a model that is there already; `GATConv`,
`GATv2Conv` and `TransformerConv` stand in for PyG's of the same name where one imports them.
"""

from graphformer.pyg.explain import AttentionWeights
from graphformer.pyg.layers import FusedGATConv, FusedGATv2Conv, FusedTransformerConv
from graphformer.pyg.replace import accelerate

GATConv, GATv2Conv, TransformerConv = FusedGATConv, FusedGATv2Conv, FusedTransformerConv

__all__ = [
    "AttentionWeights",
    "FusedGATConv",
    "FusedGATv2Conv",
    "FusedTransformerConv",
    "GATConv",
    "GATv2Conv",
    "TransformerConv",
    "accelerate",
]
