"""PyG's attention layers with fused attention.

`graphformer.accelerate(model)` replaces the layers of an existing model; `GATConv`, `GATv2Conv` and
`TransformerConv` can be imported in place of PyG's layers of the same names.
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
