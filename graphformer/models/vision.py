"""Builders of vision models."""

from __future__ import annotations

from torch import nn

from graphformer.models.model import Model
from graphformer.nn import Embedding, Head, Positions, Transformer


def vit(
    num_features: int,
    num_classes: int,
    dim: int = 128,
    depth: int = 4,
    num_heads: int = 4,
    *,
    max_length: int = 64,
    learned_positions: bool = True,
    dropout: float = 0.0,
) -> Model:
    """A vision transformer: patches as words, their mean as the image.

    Args:
        num_features: width of a flattened patch.
        num_classes: K.
        dim, depth, num_heads: of the Transformer.
        max_length: the most rows or columns of patches that learned positions can number.
        learned_positions: learn them; else sines and cosines of row and column, for any size.
        dropout: on embeddings, attention weights and residuals.

    Returns:
        A model from patches [N, num_features] at places [N, 2] to logits [B, K].

    Source: Dosovitskiy et al., 2021 (ViT).
    """
    positions = Positions(dim, max_length, axes=2, learned=learned_positions)
    return Model(
        Embedding(nn.Linear(num_features, dim), positions, dropout=dropout),
        Transformer(dim, depth, num_heads, dropout=dropout, attention_dropout=dropout),
        Head(dim, num_classes, pool="mean"),
    )
