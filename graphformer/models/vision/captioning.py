"""Captioning: an encoder of images, and a decoder that attends to its nodes for every word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from graphformer.adjacency import Adjacency
from graphformer.deprecated import renamed_keywords
from graphformer.models.generation import RENAMED, EncoderOutput, eval_mode, generate
from graphformer.models.model import Model
from graphformer.models.text.recurrent import AttentiveDecoder, Cell
from graphformer.models.text.seq2seq import EncoderDecoder, encode_source
from graphformer.models.text.trunk import text_trunk, token_head
from graphformer.models.vision.cnn import cnn
from graphformer.models.vision.vit import ViT, vit
from graphformer.nn import Head
from graphformer.patterns import Causal, Complete, Pattern, lengths

Encoder = Literal["cnn", "vit"]


def captioner(
    vocab_size: int,
    num_features: int,
    *,
    dim: int = 96,
    depth: int = 2,
    decoder_depth: int = 2,
    num_heads: int = 4,
    encoder: Encoder = "cnn",
    patch_size: int | None = None,
    channels: Sequence[int] | None = None,
    max_length: int = 64,
    dropout: float = 0.0,
    source_adjacency: Pattern = Complete(),
) -> EncoderDecoder:
    """A writer of captions: a Transformer that also attends to the image, for a causal adjacency.

    Args:
        vocab_size: number of tokens K.
        num_features: width of a flattened patch.
        dim, num_heads, dropout: of both sides.
        depth: blocks over the image's nodes.
        decoder_depth: blocks over the words.
        encoder: "cnn" for convolutions ahead of the blocks, "vit" for a linear map of patches.
        patch_size, channels: of the convolutions.
        max_length: the longest caption.
        source_adjacency: who attends to whom in the image.

    Returns:
        A model from patches [N, num_features] and the words before to logits [M, K].

    Source: Vaswani et al., 2017; Xu et al., 2015, with a Transformer for the recurrent net.
    """
    image_encoder = _encoder(
        encoder, num_features, dim, depth, num_heads, patch_size, channels, dropout
    )
    embedding, transformer = text_trunk(
        vocab_size,
        dim,
        decoder_depth,
        num_heads,
        max_length=max_length,
        dropout=dropout,
        source_dim=dim,
    )
    writer = Model(embedding, transformer, token_head(embedding, tied=True))
    return EncoderDecoder(image_encoder, writer, source_adjacency=source_adjacency)


class RecurrentCaptioner(nn.Module):
    """An encoder of images and a recurrent decoder with additive attention to its nodes.

    Batches are those of `EncoderDecoder`. `recurrent_captioner` builds it.

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

    def encode(self, batch: Any) -> Tensor:
        """The encoder's nodes of `batch.source`, [N, C']."""
        return encode_source(self.encoder, self.source_adjacency, batch)

    def forward(
        self,
        batch: Any,
        adjacency: Adjacency | None = None,
        *,
        source: Tensor | None = None,
        source_adjacency: Adjacency | None = None,
    ) -> Tensor:
        """Logits of the words given those before them, [M, K], whatever the adjacency.

        `source` and `source_adjacency` are what was encoded before, while generating.
        """
        if source is None or source_adjacency is None:
            source, sizes = self.encode(batch), tuple(map(int, batch.source_lengths))
        else:
            sizes = source_adjacency.source_lengths  # type: ignore[attr-defined]
        return self.head(self.decoder(self.tokens(batch.x), lengths(batch), source, sizes), batch)

    def attend(self, batch: Any) -> list[Tensor]:
        """What the words of each caption attend to in its image, [m, n]."""
        told: list[Tensor] = []
        sizes = tuple(map(int, batch.source_lengths))
        x = self.tokens(batch.x)
        self.decoder(x, lengths(batch), self.encode(batch), sizes, weights=told)
        return told

    @renamed_keywords(**RENAMED)
    def generate(
        self, batch: Any, *, max_new_tokens: int, start_id: int, **options: Any
    ) -> list[list[int]]:
        """Write a caption to each image, token by token.

        Args:
            batch: with `source` and `source_lengths`.
            max_new_tokens: how many tokens are written at most.
            start_id: the token that every caption starts with; it is kept.
            options: as of `graphformer.models.generate`, such as `eos_token_id` and `num_beams`.
        """
        with eval_mode(self), torch.inference_mode():
            output = EncoderOutput(
                self.encode(batch), tuple(map(int, batch.source_lengths)), batch.source
            )
        starts = [[start_id]] * len(output.lengths)
        options = {"adjacency": Causal(), **options, "cache": False, "encoder_output": output}
        return generate(self, starts, max_new_tokens=max_new_tokens, **options)


def recurrent_captioner(
    vocab_size: int,
    num_features: int,
    *,
    dim: int = 96,
    depth: int = 0,
    num_heads: int = 4,
    encoder: Encoder = "cnn",
    cell: Cell = "lstm",
    patch_size: int | None = None,
    channels: Sequence[int] | None = None,
    dropout: float = 0.0,
    source_adjacency: Pattern = Complete(),
) -> RecurrentCaptioner:
    """A writer of captions that is recurrent, and looks at the image anew for every word.

    Args:
        vocab_size: number of tokens K.
        num_features: width of a flattened patch.
        dim: width of nodes, embeddings and states.
        depth, num_heads: of self-attention over the image's nodes.
        encoder, patch_size, channels, dropout, source_adjacency: as in `captioner`.
        cell: "rnn", "gru" or "lstm".

    Returns:
        A model from patches [N, num_features] and the words before to logits [M, K].

    Source: Xu et al., 2015.
    """
    image_encoder = _encoder(
        encoder, num_features, dim, depth, num_heads, patch_size, channels, dropout
    )
    tokens = nn.Embedding(vocab_size, dim)
    nn.init.normal_(tokens.weight, std=0.1)
    decoder = AttentiveDecoder(dim, dim, cell=cell)
    head = Head(2 * dim, vocab_size)
    return RecurrentCaptioner(
        image_encoder, tokens, decoder, head, source_adjacency=source_adjacency
    )


def _encoder(
    name: str,
    num_features: int,
    dim: int,
    depth: int,
    num_heads: int,
    patch_size: int | None,
    channels: Sequence[int] | None,
    dropout: float,
) -> ViT:
    if name == "cnn":
        parts: dict[str, Any] = {"patch_size": patch_size, "channels": channels}
        return cnn(
            num_features, None, dim, depth=depth, num_heads=num_heads, dropout=dropout, **parts
        )
    if name == "vit":
        return vit(num_features, None, dim, depth, num_heads, positions="sincos", dropout=dropout)
    raise ValueError(f"encoder must be 'cnn' or 'vit', got {name!r}")
