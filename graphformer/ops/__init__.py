"""Attention functions over adjacencies with one interface for all backends, and fast dropout."""

from graphformer.ops.additive import additive_attention, gatv2_attention
from graphformer.ops.dispatch import attention, edge_feature_attention
from graphformer.ops.dropout import dropout
from graphformer.ops.offset_bias import OffsetBias

__all__ = [
    "OffsetBias",
    "additive_attention",
    "attention",
    "dropout",
    "edge_feature_attention",
    "gatv2_attention",
]
