"""The attention functions: one public dispatch, one sibling file a backend."""

from graphformer.ops.dispatch import (
    additive_attention,
    attention,
    edge_feature_attention,
    gatv2_attention,
)

__all__ = ["additive_attention", "attention", "edge_feature_attention", "gatv2_attention"]
