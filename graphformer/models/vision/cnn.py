"""A convolutional network with self-attention over its feature map."""

from __future__ import annotations

from collections.abc import Sequence

from graphformer.models.vision.embedding import old_patch_arguments
from graphformer.models.vision.vit import ViT
from graphformer.nn import Head, Positions, Transformer
from graphformer.nn.patches import Convolutions, PatchEmbedding
from graphformer.recorded import recorded


@old_patch_arguments("num_features", "num_classes", "dim", stem="convolutional")
@recorded
def cnn(
    num_classes: int | None,
    dim: int = 64,
    *,
    channels: int,
    patch_size: int,
    stem_channels: Sequence[int] | None = None,
    stem_depth: int = 1,
    depth: int = 1,
    num_heads: int = 4,
    dropout: float = 0.0,
) -> ViT:
    """Build a small convolutional network whose feature map is a graph, one node per cell.

    Args:
        num_classes: K; None for a model that returns the cells of its feature map, [N, dim].
        dim: width of the feature map.
        channels: of the images, 3 for colour.
        patch_size: side of a patch in pixels, a power of 2; a cell of the map covers one patch.
        stem_channels: widths of the layers that halve the sides, log2(patch_size) of them.
        stem_depth: convolutions after each of these.
        depth, num_heads, dropout: of the Transformer over the map; depth 0 leaves it out.

    Returns:
        A model from patches [N, channels * patch_size**2] to logits [B, K].

    Source: Bello et al., 2019, "Attention augmented convolutional networks", here in sequence.
    """
    num_features = channels * patch_size**2
    stem = Convolutions(num_features, dim, patch_size, channels=stem_channels, depth=stem_depth)
    embedding = PatchEmbedding(stem, Positions(dim, axes=2, learned=False), dropout=dropout)
    transformer = Transformer(dim, depth, num_heads, dropout=dropout)
    head = None if num_classes is None else Head(dim, num_classes, pool="mean")
    return ViT(embedding, transformer, head)
