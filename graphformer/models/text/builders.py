"""Builders of text models of one Transformer: decoders, encoders, classifiers and taggers.

Their `**options` are those of `text_trunk` or `encoder_trunk` in `models.text.trunk`.
"""

from __future__ import annotations

from torch import nn
from typing_extensions import Unpack

from graphformer.deprecated import renamed_keywords
from graphformer.models.model import Model
from graphformer.models.text.trunk import (
    BertOptions,
    LlamaOptions,
    Norm,
    PositionKind,
    TrunkOptions,
    WordOptions,
    encoder_trunk,
    text_trunk,
    token_embedding,
    token_head,
)
from graphformer.nn import Head, Pooling
from graphformer.nn.head import Pool
from graphformer.options import checked_options
from graphformer.recorded import recorded

RENAMED = {"checkpoint": "activation_checkpointing"}
"""Old names of options."""


@renamed_keywords(**RENAMED)
@checked_options
@recorded
def language_model(vocab_size: int, *, tied: bool = True, **options: Unpack[TrunkOptions]) -> Model:
    """Build a language model: GPT with a causal adjacency, BERT's encoder with a complete one.

    With the pattern `Prefix` it is a prefix LM, with a causal `Window` one of bounded context.

    Args:
        vocab_size: number of tokens K.
        tied: share the token embedding with the head.
        options: `dim`, `depth`, `num_heads` and the other options of `text_trunk`.

    Returns:
        A model from token ids [N] to logits [N, K].

    Source: Radford et al., 2019 (GPT-2).
    """
    embedding, transformer = text_trunk(vocab_size, **options)
    return Model(embedding, transformer, token_head(embedding, tied=tied))


@renamed_keywords(**RENAMED)
@checked_options
@recorded
def llama(
    vocab_size: int,
    *,
    positions: PositionKind = "rotary",
    norm: Norm = "rms",
    norm_eps: float = 1e-5,
    gated: bool = True,
    bias: bool = False,
    tied: bool = False,
    **options: Unpack[LlamaOptions],
) -> Model:
    """Build a decoder as Llama, for causal adjacencies.

    It has rotary positions, RMS normalization and SwiGLU, and no biases.

    Args:
        vocab_size: number of tokens K.
        positions, norm, norm_eps, gated, bias: of `text_trunk`.
        tied: share the token embedding with the head.
        options: the other options of `text_trunk`, such as `num_kv_heads`, `num_experts` and
            `qk_norm`.

    Returns:
        A model from token ids [N] to logits [N, K].

    Source: Touvron et al., 2023; Dubey et al., 2024.
    """
    embedding, transformer = text_trunk(
        vocab_size,
        positions=positions,
        norm=norm,
        norm_eps=norm_eps,
        gated=gated,
        bias=bias,
        **options,
    )
    return Model(embedding, transformer, token_head(embedding, tied=tied))


@checked_options
@recorded
def reward_model(vocab_size: int, **options: Unpack[TrunkOptions]) -> Model:
    """Build a model of the reward of a text, read at its last token; for causal adjacencies.

    Args:
        vocab_size: number of tokens.
        options: `dim`, `depth`, `num_heads` and the other options of `text_trunk`.

    Returns:
        A model from token ids [N] to rewards [B, 1].

    Source: Stiennon et al., 2020, section 3.4.
    """
    embedding, transformer = text_trunk(vocab_size, **options)
    head = Head(token_embedding(embedding).embedding_dim, 1, pool="last")
    return Model(embedding, transformer, head)


@renamed_keywords(**RENAMED)
@checked_options
@recorded
def bert(
    vocab_size: int,
    *,
    transform: bool = True,
    tied: bool = True,
    **options: Unpack[BertOptions],
) -> Model:
    """Build a masked language model as BERT: post-norm, token types; for complete adjacencies.

    Args:
        vocab_size: number of tokens K.
        transform: whether a linear layer, GELU and a normalization precede the head.
        tied: share the token embedding with the head.
        options: `dim`, `depth`, `num_heads` and the other options of `encoder_trunk`.

    Returns:
        A model from token ids [N] to logits [N, K].

    Source: Devlin et al., 2019.
    """
    embedding, transformer = encoder_trunk(vocab_size, **options)
    dim = token_embedding(embedding).embedding_dim
    before = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.LayerNorm(dim)) if transform else None
    head = token_head(embedding, tied=tied, bias=True, transform=before)
    return Model(embedding, transformer, head)


@renamed_keywords(**RENAMED)
@checked_options
@recorded
def text_classifier(
    vocab_size: int, num_classes: int, *, pool: Pool = "mean", **options: Unpack[BertOptions]
) -> Model:
    """Build a classifier of texts or pairs of texts, on the trunk of `bert`.

    Args:
        vocab_size: number of tokens.
        num_classes: K.
        pool: how the nodes of a text become one vector; "last" for a causal adjacency.
        options: `dim`, `depth`, `num_heads` and the other options of `encoder_trunk`.

    Returns:
        A model from token ids [N] to logits [B, K].

    Source: Devlin et al., 2019, section 4.1.
    """
    embedding, transformer = encoder_trunk(vocab_size, **options)
    head = Head(token_embedding(embedding).embedding_dim, num_classes, pool=pool)
    return Model(embedding, transformer, head)


@renamed_keywords(**RENAMED)
@checked_options
@recorded
def token_tagger(vocab_size: int, num_classes: int, **options: Unpack[BertOptions]) -> Model:
    """Build a classifier of tokens, as for parts of speech or names, on the trunk of `bert`.

    Args:
        vocab_size: number of tokens.
        num_classes: K.
        options: `dim`, `depth`, `num_heads` and the other options of `encoder_trunk`.

    Returns:
        A model from token ids [N] to logits [N, K].

    Source: Devlin et al., 2019, section 5.3.
    """
    embedding, transformer = encoder_trunk(vocab_size, **options)
    head = Head(token_embedding(embedding).embedding_dim, num_classes)
    return Model(embedding, transformer, head)


@renamed_keywords(**RENAMED)
@checked_options
@recorded
def sentence_embedder(
    vocab_size: int,
    *,
    pool: Pool = "mean",
    normalize: bool = True,
    **options: Unpack[BertOptions],
) -> Model:
    """Build a sentence encoder, on the trunk of `bert`; products of vectors are similarities.

    Args:
        vocab_size: number of tokens.
        pool: how the nodes of a text become one vector; "cls" is BERT's [CLS], "last" is for a
            causal adjacency.
        normalize: whether vectors are scaled to length one.
        options: `dim`, `depth`, `num_heads` and the other options of `encoder_trunk`.

    Returns:
        A model from token ids [N] to vectors [B, C].

    Source: Reimers and Gurevych, 2019 (Sentence-BERT).
    """
    embedding, transformer = encoder_trunk(vocab_size, **options)
    return Model(embedding, transformer, Pooling(pool, normalize=normalize))


@renamed_keywords(**RENAMED)
@checked_options
@recorded
def word_tagger(
    vocab_size: int, num_classes: int, dim: int = 128, **options: Unpack[WordOptions]
) -> Model:
    """Build a tagger of words, each embedded as the sum of its features; for any adjacency.

    Args:
        vocab_size: number of ids that the features of words are hashed into.
        num_classes: K.
        dim: width C.
        options: `depth`, `num_heads` and the other options of `text_trunk`.

    Returns:
        A model from ids [N, F], F per word, to logits [N, K].

    Source: Bojanowski et al., 2017, "Enriching word vectors with subword information".
    """
    embedding, transformer = text_trunk(1, dim, **options)
    embedding.features = nn.EmbeddingBag(vocab_size, dim, mode="sum")
    return Model(embedding, transformer, Head(dim, num_classes))
