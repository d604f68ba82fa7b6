"""Encoder-decoder models: an encoder of the source, and a decoder that attends to its nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from graphformer.adjacency import complete
from graphformer.data.batch import Batch, pack_tokens, source_batch
from graphformer.deprecated import renamed_keywords
from graphformer.models.exportable import Exportable
from graphformer.models.generation import (
    RENAMED,
    EncoderOutput,
    GenerateOptions,
    Prompts,
    as_token_lists,
    eval_mode,
    generate,
    with_defaults,
)
from graphformer.models.model import Model
from graphformer.models.text.trunk import Seq2SeqOptions, text_trunk, token_head
from graphformer.options import checked_options
from graphformer.patterns import Complete, Pattern, lengths
from graphformer.recorded import recorded

if TYPE_CHECKING:
    from graphformer.batch_type import BatchLike
    from graphformer.data.text.tokenizer import Tokenizer
    from graphformer.patterns import AdjacencyLike


class EncoderDecoder(nn.Module, Exportable):
    """An encoder, and a decoder whose blocks also attend to the encoder's nodes.

    A batch has the decoder's tokens as `x` [M], with `lengths` and `pos`, and the encoder's input
    as `source` [N, ...], with `source_lengths` and, where positions matter, `source_pos`.

    Args:
        encoder: called as `encoder(batch, adjacency)`, source to nodes [N, C']; a `Model` without
            a head, or another network, such as a convolutional network over images.
        decoder: a `Model` whose Transformer has `source_dim` C'.
        source_adjacency: pattern of the encoder's self-attention; may be replaced at any time.

    Attributes:
        tokenizer, config, extra_files, newly_initialized, generation_config,
            unused_generation_settings: as of `Model`.
        start_id: the first token of every target, by default.
    """

    def __init__(
        self, encoder: nn.Module, decoder: Model, *, source_adjacency: Pattern = Complete()
    ) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.source_adjacency = source_adjacency
        self.tokenizer: Tokenizer | None = None
        self.config: dict[str, Any] | None = None
        self.extra_files: dict[str, str] = {}
        self.newly_initialized: list[str] = []
        self.generation_config: GenerateOptions = {}
        self.unused_generation_settings: dict[str, Any] = {}
        self.start_id: int | None = None

    @property
    def adjacency(self) -> Pattern | None:
        """The decoder's adjacency of calls without one."""
        return self.decoder.adjacency

    def forward(self, batch: BatchLike, adjacency: AdjacencyLike | None = None) -> Tensor:
        """Return logits of the decoder's nodes, [M, K].

        Args:
            batch: the decoder's tokens and the encoder's input.
            adjacency: of the decoder's self-attention, M x M, or a pattern, or one per block; the
                decoder's own by default.
        """
        across = complete(lengths(batch), batch.source_lengths)
        return self.decoder(batch, adjacency, source=self.encode(batch), source_adjacency=across)

    def encode(self, batch: BatchLike) -> Tensor:
        """Return the encoder's nodes for `batch.source`, [N, C']."""
        return encode_source(self.encoder, self.source_adjacency, batch)

    @renamed_keywords(**RENAMED)
    @checked_options
    def generate(
        self,
        prompts: Prompts | BatchLike,
        *,
        max_new_tokens: int,
        start_id: int | None = None,
        **options: Unpack[GenerateOptions],
    ) -> list[int] | list[list[int]]:
        """Generate the target of each source text, token by token.

        Args:
            prompts: token ids of one source text, or of several of any lengths; or a batch with
                `source` and `source_lengths`.
            max_new_tokens: the maximal number of generated tokens.
            start_id: the first token of every target, which is part of the result; that of the
                checkpoint by default.
            options: of `graphformer.models.generate`, such as `eos_token_id` and `num_beams`.

        Returns:
            The ids of the target, a list; a list of such lists for several prompts.
        """
        start_id = self.start_id if start_id is None else start_id
        if start_id is None:
            raise ValueError(
                "start_id: got None, expected the first token of every target, such as <bos>; pass "
                "its id"
            )
        if isinstance(prompts, Sequence | Tensor):
            texts, is_batch = as_token_lists(prompts)
            batch = _source_batch(texts, next(self.parameters()).device)
        else:
            batch, is_batch = prompts, True
        with eval_mode(self), torch.inference_mode():
            output = EncoderOutput(self.encode(batch), batch.source_lengths, batch.source)
        starts = [[start_id]] * len(output.lengths)
        if self.decoder.adjacency is not None:
            options.setdefault("adjacency", self.decoder.adjacency)
        options["encoder_output"] = output
        merged = with_defaults(self, options)
        targets = generate(self.decoder, starts, max_new_tokens=max_new_tokens, **merged)
        return targets if is_batch else targets[0]


def encode_source(encoder: nn.Module, pattern: Pattern, batch: BatchLike) -> Tensor:
    """Return the nodes that an encoder computes for `batch.source`, texts or images; [N, C']."""
    source = source_batch(batch)
    return encoder(source, pattern(source))


def _source_batch(texts: list[list[int]], device: torch.device) -> Batch:
    packed = pack_tokens(texts, device=device)
    return Batch(source=packed.x, source_pos=packed.pos, source_lengths=packed.lengths)


@renamed_keywords(checkpoint="activation_checkpointing")
@checked_options
@recorded
def encoder_decoder(
    vocab_size: int,
    *,
    dim: int = 128,
    depth: int = 4,
    decoder_depth: int | None = None,
    tied: bool = True,
    source_adjacency: Pattern = Complete(),
    **options: Unpack[Seq2SeqOptions],
) -> EncoderDecoder:
    """Build an encoder-decoder as T5 and BART, for translation, summarisation or denoising.

    The defaults are BART's; T5 has `positions="relative"`, `norm="rms"` and `bias=False`. Its
    adjacency is causal.

    Args:
        vocab_size: number of tokens K, the same on both sides.
        dim: width C.
        depth: number of blocks of the encoder.
        decoder_depth: number of blocks of the decoder; `depth` by default.
        tied: share one embedding between both sides and the head.
        source_adjacency: pattern of the encoder's self-attention.
        options: `num_heads` and the other options of `text_trunk`, for both sides.

    Returns:
        A model from source ids [N] and target ids [M] to logits [M, K].

    Source: Vaswani et al., 2017; Raffel et al., 2020 (T5); Lewis et al., 2020 (BART).
    """
    decoder_depth = depth if decoder_depth is None else decoder_depth
    # Blocks with cross-attention have one layout. It is named here, so that the command line does
    # not take it for an option.
    encoder_parts = text_trunk(
        vocab_size,
        dim,
        depth,
        bidirectional=True,
        layout="sequential",
        gated_cross_attention=False,
        **options,
    )
    decoder_parts = text_trunk(
        vocab_size,
        dim,
        decoder_depth,
        source_dim=dim,
        layout="sequential",
        gated_cross_attention=False,
        **options,
    )
    if tied:
        encoder_parts[0].features = decoder_parts[0].features
    head = token_head(decoder_parts[0], tied=tied)
    encoder, decoder = Model(*encoder_parts), Model(*decoder_parts, head)
    return EncoderDecoder(encoder, decoder, source_adjacency=source_adjacency)
