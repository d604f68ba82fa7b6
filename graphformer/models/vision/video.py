"""Video transformers: patches of space and time as nodes, for classes and for captions."""

from __future__ import annotations

from typing import Literal

from torch import nn

from graphformer.models.text.seq2seq import EncoderDecoder
from graphformer.models.vision.captioning import caption_decoder
from graphformer.models.vision.embedding import ImagePool, check_image_pool
from graphformer.models.vision.vit import ViT
from graphformer.nn import Head, Positions, Transformer
from graphformer.nn.block import ActivationCheckpointing
from graphformer.nn.patches import PatchEmbedding
from graphformer.patterns import Complete, Pattern
from graphformer.recorded import recorded


@recorded
def video_vit(
    num_classes: int | None,
    dim: int = 128,
    depth: int = 4,
    num_heads: int = 4,
    *,
    channels: int,
    patch_size: int,
    patch_frames: int,
    hidden_dim: int | None = None,
    pool: ImagePool = "mean",
    registers: int = 0,
    positions: Literal["axial", "sincos"] = "axial",
    max_length: int = 64,
    dropout: float = 0.0,
    drop_path: float = 0.0,
    activation_checkpointing: ActivationCheckpointing = False,
) -> ViT:
    """Build a vision transformer for videos of any size and duration.

    Args:
        num_classes: K; None for a model that returns the nodes of its patches, [N, C].
        dim, depth, num_heads, hidden_dim, activation_checkpointing: of the Transformer.
        channels: of the frames, 3 for colour.
        patch_size: side of a patch in pixels.
        patch_frames: frames of a patch.
        pool, registers, dropout, drop_path: as in `vit`.
        positions: "axial" learns one encoding per time, row and column; "sincos" is fixed, and
            dim is then a multiple of 6.
        max_length: the largest number of times, rows or columns of patches for "axial".

    Returns:
        A model from patches [N, channels * patch_frames * patch_size**2] with positions [N, 3],
        as `data.pack_videos` makes them, to logits [B, K].

    Raises:
        ValueError: when an option is unknown.

    Source: Arnab et al., 2021, "ViViT" (model 1: all patches in one sequence, for `Complete`).
    """
    pool = check_image_pool(pool)
    if registers < 0:
        raise ValueError(f"registers: got {registers}, expected 0 or more")
    if positions not in ("axial", "sincos"):
        raise ValueError(f"positions: got {positions!r}, expected 'axial' or 'sincos'")
    embedding = PatchEmbedding(
        nn.Linear(channels * patch_frames * patch_size**2, dim),
        Positions(dim, max_length, axes=3, learned=positions == "axial"),
        dropout=dropout,
    )
    transformer = Transformer(
        dim,
        depth,
        num_heads,
        hidden_dim=hidden_dim,
        dropout=dropout,
        attention_dropout=dropout,
        drop_path=drop_path,
        activation_checkpointing=activation_checkpointing,
    )
    head = None if num_classes is None else Head(dim, num_classes, pool=pool)
    return ViT(embedding, transformer, head, tokens=(pool == "cls") + registers)


@recorded
def video_captioner(
    vocab_size: int,
    *,
    channels: int,
    patch_size: int,
    patch_frames: int,
    dim: int = 96,
    depth: int = 2,
    decoder_depth: int = 2,
    num_heads: int = 4,
    max_length: int = 64,
    dropout: float = 0.0,
    source_adjacency: Pattern = Complete(),
) -> EncoderDecoder:
    """Build a Transformer that writes captions by cross-attention to the nodes of a video.

    Args:
        vocab_size: number of tokens K.
        channels, patch_size, patch_frames: as in `video_vit`.
        dim, num_heads, dropout: of encoder and decoder.
        depth: blocks over the video's nodes.
        decoder_depth: blocks over the tokens.
        max_length: the longest caption in tokens, and the largest number of patches on an axis.
        source_adjacency: pattern among the video's nodes.

    Returns:
        A model from patches [N, channels * patch_frames * patch_size**2] and tokens [M] to logits
        of the next tokens [M, K], for a causal adjacency.

    Source: Arnab et al., 2021 (encoder); Vaswani et al., 2017 (decoder).
    """
    encoder = video_vit(
        None,
        dim,
        depth,
        num_heads,
        channels=channels,
        patch_size=patch_size,
        patch_frames=patch_frames,
        max_length=max_length,
        dropout=dropout,
    )
    return caption_decoder(
        encoder,
        vocab_size,
        dim,
        depth=decoder_depth,
        num_heads=num_heads,
        max_length=max_length,
        dropout=dropout,
        source_adjacency=source_adjacency,
    )
