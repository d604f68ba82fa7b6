"""PyG models on the fused attention: `graphformer.accelerate(model)`."""

from graphformer.pyg.explain import AttentionWeights
from graphformer.pyg.layers import FusedGATConv, FusedGATv2Conv, FusedTransformerConv
from graphformer.pyg.replace import accelerate

__all__ = [
    "AttentionWeights",
    "FusedGATConv",
    "FusedGATv2Conv",
    "FusedTransformerConv",
    "accelerate",
]
