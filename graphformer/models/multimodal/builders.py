"""Builders of vision-language models: patches before a text, and gated cross-attention to them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from graphformer.models.model import Model
from graphformer.models.multimodal.image_tokens import ImageTokens, VisionLanguageModel
from graphformer.models.text.seq2seq import EncoderDecoder
from graphformer.models.text.trunk import text_trunk, token_embedding, token_head
from graphformer.models.vision.embedding import Stem
from graphformer.models.vision.vit import ViT, vit
from graphformer.patterns import Complete, Pattern
from graphformer.recorded import recorded


@recorded
def llava(
    vocab_size: int,
    *,
    channels: int,
    patch_size: int,
    image_token_id: int,
    dim: int = 96,
    depth: int = 4,
    num_heads: int = 4,
    image_depth: int = 0,
    stem: Stem = "convolutional",
    stem_channels: Sequence[int] | None = None,
    image_adjacency: Pattern = Complete(),
    dropout: float = 0.0,
) -> VisionLanguageModel:
    """Build a decoder over the patches of an image and the tokens after them, as LLaVA.

    With the pattern `Prefix` patches attend to one another and tokens to patches and the tokens
    before; with `Within` and `Between` any other edges of either. Patches have sines and cosines of
    their row and column, and all nodes rotary positions in the sequence.

    Args:
        vocab_size: number of tokens K.
        channels: of the images, 3 for colour.
        patch_size: side of a patch in pixels.
        image_token_id: the id of the tokens whose embeddings are those of patches.
        dim, num_heads, dropout: of the decoder and the image encoder.
        depth: blocks over patches and tokens.
        image_depth: blocks of the image encoder, over patches alone.
        stem, stem_channels: embedding of the patches, as in `vit`.
        image_adjacency: pattern of the blocks of the image encoder.

    Returns:
        A model from the tokens and patches of `data.prepend_images` to logits [N, K].

    Raises:
        ValueError: when the stem is unknown.

    Source: Liu et al., 2023, "Visual instruction tuning", with a small image encoder that is
    trained with the decoder; projector: Liu et al., 2024 (LLaVA 1.5).
    """
    image = _image_encoder(
        dim,
        image_depth,
        num_heads,
        channels=channels,
        patch_size=patch_size,
        stem=stem,
        stem_channels=stem_channels,
        dropout=dropout,
    )
    image.adjacency = image_adjacency
    projector = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, dim))
    tokens, transformer = text_trunk(
        vocab_size, dim, depth, num_heads, positions="rotary", dropout=dropout
    )
    embedding = ImageTokens(token_embedding(tokens), image, projector, image_token_id)
    return VisionLanguageModel(embedding, transformer, token_head(tokens, tied=True))


@recorded
def flamingo(
    vocab_size: int,
    *,
    channels: int,
    patch_size: int,
    dim: int = 96,
    depth: int = 4,
    num_heads: int = 4,
    image_depth: int = 2,
    stem: Stem = "convolutional",
    stem_channels: Sequence[int] | None = None,
    image_adjacency: Pattern = Complete(),
    dropout: float = 0.0,
) -> EncoderDecoder:
    """Build a decoder whose blocks attend to an image by gated cross-attention, as Flamingo.

    The gates are closed at first: the untrained model computes what its decoder does without an
    image. Flamingo's resampler of patches and its gated feed-forward nets are left out.

    Args:
        vocab_size: number of tokens K.
        channels: of the images, 3 for colour.
        patch_size: side of a patch in pixels.
        dim, num_heads, dropout: of the decoder and the image encoder.
        depth: blocks over the tokens, each with cross-attention.
        image_depth: blocks of the image encoder.
        stem, stem_channels: embedding of the patches, as in `vit`.
        image_adjacency: pattern of the blocks of the image encoder.

    Returns:
        A model from the tokens and patches of `data.attach_images` to logits [N, K].

    Raises:
        ValueError: when the stem is unknown.

    Source: Alayrac et al., 2022, "Flamingo", section 2.2.
    """
    image = _image_encoder(
        dim,
        image_depth,
        num_heads,
        channels=channels,
        patch_size=patch_size,
        stem=stem,
        stem_channels=stem_channels,
        dropout=dropout,
    )
    tokens, transformer = text_trunk(
        vocab_size,
        dim,
        depth,
        num_heads,
        positions="rotary",
        dropout=dropout,
        source_dim=dim,
        gated_cross_attention=True,
    )
    decoder = Model(tokens, transformer, token_head(tokens, tied=True))
    return EncoderDecoder(image, decoder, source_adjacency=image_adjacency)


def _image_encoder(
    dim: int,
    depth: int,
    num_heads: int,
    *,
    channels: int,
    patch_size: int,
    stem: Stem,
    stem_channels: Sequence[int] | None,
    dropout: float,
) -> ViT:
    """Return an encoder of images of any size as nodes of their patches, [S, dim]."""
    return vit(
        None,
        dim,
        depth,
        num_heads,
        channels=channels,
        patch_size=patch_size,
        positions="sincos",
        stem=stem,
        stem_channels=stem_channels,
        dropout=dropout,
    )
