"""Captioning: an image encoder, and a decoder that attends to its nodes at every token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from graphformer.adjacency import Adjacency
from graphformer.batch_type import BatchLike
from graphformer.deprecated import renamed_keywords
from graphformer.models.generation import (
    RENAMED,
    EncoderOutput,
    GenerateOptions,
    eval_mode,
    generate,
)
from graphformer.models.model import Model
from graphformer.models.text.recurrent import AttentiveDecoder, Cell
from graphformer.models.text.seq2seq import EncoderDecoder, encode_source
from graphformer.models.text.trunk import text_trunk, token_head
from graphformer.models.vision.cnn import cnn
from graphformer.models.vision.embedding import old_patch_arguments
from graphformer.models.vision.vit import ViT, vit
from graphformer.nn import Head
from graphformer.options import checked_options
from graphformer.patterns import Causal, Complete, Pattern, lengths
from graphformer.recorded import recorded

Encoder = Literal["cnn", "vit"]


@old_patch_arguments("vocab_size", "num_features", stem="convolutional")
@recorded
def captioner(
    vocab_size: int,
    *,
    channels: int,
    patch_size: int,
    dim: int = 96,
    depth: int = 2,
    decoder_depth: int = 2,
    num_heads: int = 4,
    encoder: Encoder = "cnn",
    stem_channels: Sequence[int] | None = None,
    max_length: int = 64,
    dropout: float = 0.0,
    source_adjacency: Pattern = Complete(),
) -> EncoderDecoder:
    """Build a Transformer that writes captions by cross-attention to the image's nodes.

    Args:
        vocab_size: number of tokens K.
        channels: of the images, 3 for colour.
        patch_size: side of a patch in pixels.
        dim, num_heads, dropout: of encoder and decoder.
        depth: blocks over the image's nodes.
        decoder_depth: blocks over the tokens.
        encoder: "cnn" for convolutions before the blocks, "vit" for a linear map of patches.
        stem_channels: widths of the convolutions, as in `cnn`.
        max_length: the longest caption in tokens.
        source_adjacency: pattern among the image's nodes.

    Returns:
        A model from patches [N, channels * patch_size**2] and tokens [M] to logits of the next
        tokens [M, K], for a causal adjacency.

    Raises:
        ValueError: when encoder is unknown.

    Source: Vaswani et al., 2017; Xu et al., 2015, with a Transformer for the recurrent net.
    """
    image_encoder = _image_encoder(
        encoder,
        dim,
        channels=channels,
        patch_size=patch_size,
        depth=depth,
        num_heads=num_heads,
        stem_channels=stem_channels,
        dropout=dropout,
    )
    return caption_decoder(
        image_encoder,
        vocab_size,
        dim,
        depth=decoder_depth,
        num_heads=num_heads,
        max_length=max_length,
        dropout=dropout,
        source_adjacency=source_adjacency,
    )


def caption_decoder(
    encoder: ViT,
    vocab_size: int,
    dim: int,
    *,
    depth: int,
    num_heads: int,
    max_length: int,
    dropout: float,
    source_adjacency: Pattern,
) -> EncoderDecoder:
    """Return an encoder of images or videos, and a Transformer that writes captions of its nodes.

    Args:
        encoder: from a batch of patches to nodes [N, dim].
        vocab_size: number of tokens.
        dim, depth, num_heads, dropout: of the decoder.
        max_length: the longest caption in tokens.
        source_adjacency: pattern among the encoder's nodes.
    """
    embedding, transformer = text_trunk(
        vocab_size,
        dim,
        depth,
        num_heads,
        max_length=max_length,
        dropout=dropout,
        source_dim=dim,
    )
    decoder = Model(embedding, transformer, token_head(embedding, tied=True))
    return EncoderDecoder(encoder, decoder, source_adjacency=source_adjacency)


class RecurrentCaptioner(nn.Module):
    """An image encoder, and a recurrent decoder with additive attention to its nodes.

    Batches are those of `EncoderDecoder`. `recurrent_captioner` builds it.

    Args:
        encoder: from a batch of patches to nodes [N, C'].
        tokens: embedding of the tokens.
        decoder: the recurrent net with attention.
        head: from states and contexts to logits [M, K].
        source_adjacency: pattern among the image's nodes; may be replaced at any time.

    Source: Xu et al., 2015, "Show, attend and tell" (soft attention).
    """

    def __init__(
        self,
        encoder: nn.Module,
        tokens: nn.Embedding,
        decoder: AttentiveDecoder,
        head: Head,
        *,
        source_adjacency: Pattern = Complete(),
    ) -> None:
        super().__init__()
        self.encoder, self.tokens, self.decoder, self.head = encoder, tokens, decoder, head
        self.source_adjacency = source_adjacency

    def encode(self, batch: BatchLike) -> Tensor:
        """Return the encoder's nodes of `batch.source`, [N, C']."""
        return encode_source(self.encoder, self.source_adjacency, batch)

    def forward(
        self,
        batch: BatchLike,
        adjacency: Adjacency | None = None,
        *,
        source: Tensor | None = None,
        source_adjacency: Adjacency | None = None,
    ) -> Tensor:
        """Return the logits of each next token, [M, K].

        Args:
            batch: tokens `x` [M] and `lengths`; patches `source` [N, F] and `source_lengths`.
            adjacency: unused; a recurrent net always reads the tokens before.
            source: the encoder's nodes [N, C'], if they are already computed.
            source_adjacency: M x N, for its lengths; required with `source`.
        """
        if source is None or source_adjacency is None:
            source, sizes = self.encode(batch), tuple(map(int, batch.source_lengths))
        else:
            sizes = source_adjacency.source_lengths  # type: ignore[attr-defined]
        return self.head(self.decoder(self.tokens(batch.x), lengths(batch), source, sizes), batch)

    def attend(self, batch: BatchLike) -> list[Tensor]:
        """Return the attention weights of each caption's tokens over its image's nodes, [m, n]."""
        weights: list[Tensor] = []
        sizes = tuple(map(int, batch.source_lengths))
        x = self.tokens(batch.x)
        self.decoder(x, lengths(batch), self.encode(batch), sizes, weights=weights)
        return weights

    @renamed_keywords(**RENAMED)
    @checked_options
    def generate(
        self,
        batch: BatchLike,
        *,
        max_new_tokens: int,
        start_id: int,
        **options: Unpack[GenerateOptions],
    ) -> list[list[int]]:
        """Write a caption for each image, token by token.

        Args:
            batch: with `source` and `source_lengths`.
            max_new_tokens: the largest number of tokens that are generated.
            start_id: the token that every caption starts with; part of the result.
            options: as of `graphformer.models.generate`, such as `eos_token_id` and `num_beams`.

        Returns:
            The token ids of each caption, B lists.
        """
        with eval_mode(self), torch.inference_mode():
            output = EncoderOutput(
                self.encode(batch), tuple(map(int, batch.source_lengths)), batch.source
            )
        starts = [[start_id]] * len(output.lengths)
        options.setdefault("adjacency", Causal())
        options |= {"cache": False, "encoder_output": output}
        return generate(self, starts, max_new_tokens=max_new_tokens, **options)


@old_patch_arguments("vocab_size", "num_features", stem="convolutional")
@recorded
def recurrent_captioner(
    vocab_size: int,
    *,
    channels: int,
    patch_size: int,
    dim: int = 96,
    depth: int = 0,
    num_heads: int = 4,
    encoder: Encoder = "cnn",
    cell: Cell = "lstm",
    stem_channels: Sequence[int] | None = None,
    dropout: float = 0.0,
    source_adjacency: Pattern = Complete(),
) -> RecurrentCaptioner:
    """Build a recurrent net that writes captions, with attention to the image at every token.

    Args:
        vocab_size: number of tokens K.
        channels, patch_size, encoder, stem_channels, dropout, source_adjacency: as in `captioner`.
        dim: width of nodes, token embeddings and states.
        depth, num_heads: of self-attention over the image's nodes.
        cell: "rnn", "gru" or "lstm".

    Returns:
        A model from patches [N, channels * patch_size**2] and tokens [M] to logits of the next
        tokens [M, K].

    Raises:
        ValueError: when encoder is unknown.

    Source: Xu et al., 2015.
    """
    image_encoder = _image_encoder(
        encoder,
        dim,
        channels=channels,
        patch_size=patch_size,
        depth=depth,
        num_heads=num_heads,
        stem_channels=stem_channels,
        dropout=dropout,
    )
    tokens = nn.Embedding(vocab_size, dim)
    nn.init.normal_(tokens.weight, std=0.1)
    decoder = AttentiveDecoder(dim, dim, cell=cell)
    head = Head(2 * dim, vocab_size)
    return RecurrentCaptioner(
        image_encoder, tokens, decoder, head, source_adjacency=source_adjacency
    )


def _image_encoder(
    kind: Encoder,
    dim: int,
    *,
    channels: int,
    patch_size: int,
    depth: int,
    num_heads: int,
    stem_channels: Sequence[int] | None,
    dropout: float,
) -> ViT:
    if kind == "cnn":
        return cnn(
            None,
            dim,
            channels=channels,
            patch_size=patch_size,
            stem_channels=stem_channels,
            depth=depth,
            num_heads=num_heads,
            dropout=dropout,
        )
    if kind == "vit":
        return vit(
            None,
            dim,
            depth,
            num_heads,
            channels=channels,
            patch_size=patch_size,
            positions="sincos",
            dropout=dropout,
        )
    raise ValueError(f"encoder: got {kind!r}, expected 'cnn' or 'vit'")
