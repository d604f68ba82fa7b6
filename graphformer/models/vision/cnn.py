"""A convolutional net with self-attention over its feature map."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from graphformer.models.vision.vit import ViT
from graphformer.nn import Head, Positions, Transformer
from graphformer.nn.patches import Convolutions, PatchEmbedding


def cnn(
    num_features: int,
    num_classes: int | None,
    dim: int = 64,
    *,
    patch_size: int | None = None,
    channels: Sequence[int] | None = None,
    stem_depth: int = 1,
    depth: int = 1,
    num_heads: int = 4,
    dropout: float = 0.0,
) -> ViT:
    """A small convolutional net whose feature map is a graph: cells attend along an adjacency.

    Args:
        num_features: width of a flattened patch.
        num_classes: K; None for a model that answers with the cells of its feature map, [N, C].
        dim: width C of the feature map.
        patch_size: side of the data's patches, a power of 2; a cell of the map is as large.
        channels: of the layers that halve the sides.
        stem_depth: convolutions after each of these.
        depth, num_heads, dropout: of the Transformer over the map; a depth of 0 leaves it out.

    Returns:
        A model from patches [N, num_features] to logits [B, K].

    Source: Bello et al., 2019, "Attention augmented convolutional networks", here in sequence.
    """
    if patch_size is None:
        raise ValueError("cnn needs patch_size, the side of the data's patches")
    stem = Convolutions(num_features, dim, patch_size, channels=channels, depth=stem_depth)
    positions = Positions(dim, axes=2, learned=False)
    embedding = PatchEmbedding(stem, positions, dropout=dropout)
    transformer = Transformer(dim, depth, num_heads, dropout=dropout)
    head: nn.Module | None = None
    if num_classes is not None:
        head = Head(dim, num_classes, pool="mean")
    return ViT(embedding, transformer, head)
