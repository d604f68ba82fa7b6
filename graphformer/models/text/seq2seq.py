"""Encoder-decoder models: one Transformer reads, another writes and attends to what was read."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from graphformer import adjacency as adjacencies
from graphformer.adjacency import Adjacency
from graphformer.deprecated import renamed_keywords
from graphformer.models.generation import (
    RENAMED,
    EncoderOutput,
    as_token_lists,
    eval_mode,
    generate,
)
from graphformer.models.model import Model
from graphformer.models.text.trunk import text_trunk, token_head
from graphformer.patterns import Complete, Pattern, lengths


class EncoderDecoder(nn.Module):
    """An encoder, and a decoder each of whose blocks also attends to the encoder's nodes.

    A batch has for the decoder what any batch has (`x` [M], `lengths`, `pos`); what the encoder
    reads are `source` [N, ...], `source_lengths` and, where places matter, `source_pos`.

    Args:
        encoder: nodes of the source, [N, C']: `Model` without a head, or anything else that is
            called as `encoder(batch, adjacency)`, such as a convolutional net of images.
        decoder: a `Model` whose Transformer has `source_dim` C'.
        source_adjacency: who attends to whom among the sources; may be replaced at any time.
    """

    def __init__(
        self, encoder: nn.Module, decoder: Model, *, source_adjacency: Pattern = Complete()
    ) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.source_adjacency = source_adjacency

    def forward(self, batch: Any, adjacency: Adjacency) -> Tensor:
        """Logits of the decoder's nodes, [M, K]; `adjacency`, M x M, is that of the decoder."""
        across = adjacencies.complete(lengths(batch), batch.source_lengths)
        return self.decoder(batch, adjacency, source=self.encode(batch), source_adjacency=across)

    def encode(self, batch: Any) -> Tensor:
        """The encoder's nodes of `batch.source`, [N, C']."""
        return encode_source(self.encoder, self.source_adjacency, batch)

    @renamed_keywords(**RENAMED)
    def generate(
        self, prompts: Any, *, max_new_tokens: int, start_id: int, **options: Any
    ) -> list[int] | list[list[int]]:
        """Write an answer to each source text, token by token.

        Args:
            prompts: token ids of one source text, or of several of whatever lengths; or a batch
                with `source` and `source_lengths`.
            max_new_tokens: how many tokens are written at most.
            start_id: the token that every answer starts with; it is kept.
            options: as of `graphformer.models.generate`, such as `eos_token_id` and `num_beams`.

        Returns:
            The ids of the answer, a list; a list of such lists for several prompts.
        """
        batch, several = prompts, True
        if not hasattr(prompts, "source"):
            texts, several = as_token_lists(prompts)
            batch = _source_batch(texts, next(self.parameters()).device)
        with eval_mode(self), torch.inference_mode():
            output = EncoderOutput(self.encode(batch), batch.source_lengths, batch.source)
        starts = [[start_id]] * len(output.lengths)
        answers: list[list[int]] = generate(
            self.decoder, starts, max_new_tokens=max_new_tokens, encoder_output=output, **options
        )
        return answers if several else answers[0]


def encode_source(encoder: nn.Module, pattern: Pattern, batch: Any) -> Tensor:
    """What an encoder makes of `batch.source`, of texts or images, [N, C']."""
    source = SimpleNamespace(
        x=batch.source,
        lengths=tuple(map(int, batch.source_lengths)),
        pos=getattr(batch, "source_pos", None),
        shapes=getattr(batch, "source_shapes", None),
        num_nodes=len(batch.source),
    )
    return encoder(source, pattern(source))


def _source_batch(texts: list[list[int]], device: torch.device) -> Any:
    lengths = tuple(map(len, texts))
    return SimpleNamespace(
        source=torch.tensor([token for text in texts for token in text], device=device),
        source_lengths=lengths,
        source_pos=torch.cat([torch.arange(length, device=device) for length in lengths]),
    )


@renamed_keywords(checkpoint="activation_checkpointing")
def encoder_decoder(
    vocab_size: int,
    *,
    dim: int = 128,
    depth: int = 4,
    decoder_depth: int | None = None,
    tied: bool = True,
    source_adjacency: Pattern = Complete(),
    **parts: Any,
) -> EncoderDecoder:
    """A translator, summariser or denoiser as T5 and BART; for a causal adjacency.

    BART has the default parts; T5 has `positions="relative"`, `norm="rms"` and `bias=False`.

    Args:
        vocab_size: number of tokens K, the same on both sides.
        dim: width C.
        depth: number of blocks of the encoder.
        decoder_depth: those of the decoder; as many by default.
        tied: share one embedding between both sides and the head.
        source_adjacency: who attends to whom among the sources.
        parts: `num_heads` and the other parts of `text_trunk`, for both sides.

    Returns:
        A model from source ids [N] and target ids [M] to logits [M, K].

    Source: Vaswani et al., 2017; Raffel et al., 2020 (T5); Lewis et al., 2020 (BART).
    """
    reading = text_trunk(vocab_size, dim, depth, bidirectional=True, **parts)
    writing = text_trunk(
        vocab_size, dim, depth if decoder_depth is None else decoder_depth, source_dim=dim, **parts
    )
    if tied:
        reading[0].features = writing[0].features
    head = token_head(writing[0], tied=tied)
    encoder, decoder = Model(*reading), Model(*writing, head)
    return EncoderDecoder(encoder, decoder, source_adjacency=source_adjacency)
