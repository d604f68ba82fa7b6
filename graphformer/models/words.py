"""Taggers of words that are sums of what they consist of."""

from __future__ import annotations

from typing import Any

from torch import nn

from graphformer.models.model import Model
from graphformer.models.parts import text_trunk
from graphformer.nn import Head


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
