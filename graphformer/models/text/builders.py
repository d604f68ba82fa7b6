"""Builders of text models that are one Transformer: decoders, encoders and what stands on them."""

from __future__ import annotations

from typing import Any

from torch import nn

from graphformer.deprecated import renamed_keywords
from graphformer.models.model import Model
from graphformer.models.text.trunk import (
    Norm,
    PositionKind,
    encoder_trunk,
    text_trunk,
    token_head,
    tokens_of,
)
from graphformer.nn import Head, Pooling
from graphformer.nn.head import Pool


@renamed_keywords(checkpoint="activation_checkpointing")
def language_model(vocab_size: int, *, tied: bool = True, **parts: Any) -> Model:
    """A language model: with a causal adjacency GPT, with a complete one BERT's encoder.

    With the pattern `Prefix` it is a prefix LM, with a causal `Window` one of bounded reach.

    Args:
        vocab_size: number of tokens K.
        tied: share the token embedding with the head.
        parts: `dim`, `depth`, `num_heads` and the other parts of `text_trunk`.

    Returns:
        A model from token ids [N] to logits [N, K].

    Source: Radford et al., 2019 (GPT-2).
    """
    embedding, transformer = text_trunk(vocab_size, **parts)
    return Model(embedding, transformer, token_head(embedding, tied=tied))


@renamed_keywords(checkpoint="activation_checkpointing")
def llama(
    vocab_size: int,
    *,
    positions: PositionKind = "rotary",
    norm: Norm = "rms",
    norm_eps: float = 1e-5,
    gated: bool = True,
    bias: bool = False,
    tied: bool = False,
    **parts: Any,
) -> Model:
    """A decoder as Llama: rotary positions, RMS norms, SwiGLU, no biases; for causal adjacencies.

    Args:
        vocab_size: number of tokens K.
        positions, norm, norm_eps, gated, bias: of `text_trunk`.
        tied: share the token embedding with the head.
        parts: the other parts of `text_trunk`, such as `num_kv_heads`, `num_experts`, `qk_norm`.

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
        **parts,
    )
    return Model(embedding, transformer, token_head(embedding, tied=tied))


@renamed_keywords(checkpoint="activation_checkpointing")
def bert(vocab_size: int, *, transform: bool = True, tied: bool = True, **parts: Any) -> Model:
    """A masked language model as BERT: post-norm, token types; for complete adjacencies.

    Args:
        vocab_size: number of tokens K.
        transform: whether a linear map, GELU and a norm come before the head.
        tied: share the token embedding with the head.
        parts: `dim`, `depth`, `num_heads` and the other parts of `encoder_trunk`.

    Returns:
        A model from token ids [N] to logits [N, K].

    Source: Devlin et al., 2019.
    """
    embedding, transformer = encoder_trunk(vocab_size, **parts)
    dim = tokens_of(embedding).embedding_dim
    before = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.LayerNorm(dim)) if transform else None
    head = token_head(embedding, tied=tied, bias=True, transform=before)
    return Model(embedding, transformer, head)


@renamed_keywords(checkpoint="activation_checkpointing")
def text_classifier(
    vocab_size: int, num_classes: int, *, pool: Pool = "mean", **parts: Any
) -> Model:
    """A classifier of texts or pairs of texts, on the trunk of `bert`.

    Args:
        vocab_size: number of tokens.
        num_classes: K.
        pool: how a text's tokens become one vector; "last" for a causal adjacency.
        parts: `dim`, `depth`, `num_heads` and the other parts of `encoder_trunk`.

    Returns:
        A model from token ids [N] to logits [B, K].

    Source: Devlin et al., 2019, section 4.1.
    """
    embedding, transformer = encoder_trunk(vocab_size, **parts)
    head = Head(tokens_of(embedding).embedding_dim, num_classes, pool=pool)
    return Model(embedding, transformer, head)


@renamed_keywords(checkpoint="activation_checkpointing")
def token_tagger(vocab_size: int, num_classes: int, **parts: Any) -> Model:
    """A classifier of every token, as for parts of speech or names, on the trunk of `bert`.

    Args:
        vocab_size: number of tokens.
        num_classes: K.
        parts: `dim`, `depth`, `num_heads` and the other parts of `encoder_trunk`.

    Returns:
        A model from token ids [N] to logits [N, K].

    Source: Devlin et al., 2019, section 5.3.
    """
    embedding, transformer = encoder_trunk(vocab_size, **parts)
    head = Head(tokens_of(embedding).embedding_dim, num_classes)
    return Model(embedding, transformer, head)


@renamed_keywords(checkpoint="activation_checkpointing")
def sentence_embedder(
    vocab_size: int, *, pool: Pool = "mean", normalize: bool = True, **parts: Any
) -> Model:
    """Vectors of texts, whose products tell how alike they are, on the trunk of `bert`.

    Args:
        vocab_size: number of tokens.
        pool: how a text's tokens become one vector; "cls" takes BERT's [CLS], "last" is for a
            causal adjacency.
        normalize: whether vectors are scaled to length one.
        parts: `dim`, `depth`, `num_heads` and the other parts of `encoder_trunk`.

    Returns:
        A model from token ids [N] to vectors [B, C].

    Source: Reimers and Gurevych, 2019 (Sentence-BERT).
    """
    embedding, transformer = encoder_trunk(vocab_size, **parts)
    return Model(embedding, transformer, Pooling(pool, normalize=normalize))


@renamed_keywords(checkpoint="activation_checkpointing")
def word_tagger(vocab_size: int, num_classes: int, dim: int = 128, **parts: Any) -> Model:
    """A tagger of words, each the sum of the embeddings of its parts: for trees or any adjacency.

    Args:
        vocab_size: number of ids that words' parts are hashed into.
        num_classes: K.
        dim: width C.
        parts: `depth`, `num_heads` and the other parts of `text_trunk`.

    Returns:
        A model from ids [N, F] to logits [N, K].

    Source: Bojanowski et al., 2017, "Enriching word vectors with subword information".
    """
    embedding, transformer = text_trunk(1, dim, **parts)
    embedding.features = nn.EmbeddingBag(vocab_size, dim, mode="sum")
    return Model(embedding, transformer, Head(dim, num_classes))
