"""Builders of text models."""

from __future__ import annotations

from torch import nn

from graphformer.models.model import Model
from graphformer.nn import Embedding, Head, Positions, Transformer


def language_model(
    vocab_size: int,
    dim: int = 128,
    depth: int = 4,
    num_heads: int = 4,
    *,
    max_length: int = 1024,
    learned_positions: bool = True,
    tied: bool = True,
    bias: bool = True,
    dropout: float = 0.0,
) -> Model:
    """A language model: with a causal adjacency GPT, with a complete one BERT's encoder.

    Args:
        vocab_size: number of tokens K.
        dim, depth, num_heads: of the Transformer.
        max_length: the longest text that learned positions can number.
        learned_positions: learn them; else sinusoidal, for texts of any length.
        tied: share the token embedding with the head.
        bias: whether linear maps have one.
        dropout: on embeddings, attention weights and residuals.

    Returns:
        A model from token ids [N] to logits [N, K].

    Source: Radford et al., 2019 (GPT-2).
    """
    tokens = nn.Embedding(vocab_size, dim)
    head = Head(dim, vocab_size, bias=False)
    if tied:
        head.linear.weight = tokens.weight
    return Model(
        Embedding(tokens, Positions(dim, max_length, learned=learned_positions), dropout=dropout),
        Transformer(dim, depth, num_heads, bias=bias, dropout=dropout, attention_dropout=dropout),
        head,
    )
