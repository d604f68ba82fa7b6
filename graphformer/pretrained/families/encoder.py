"""Encoders of text that BERT began: put together from the names of their config."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from graphformer.models import Model
from graphformer.models.text.trunk import token_head, tokens_of
from graphformer.nn import (
    Dropout,
    Embedding,
    FeedForward,
    Head,
    MultiHeadAttention,
    Pooling,
    Positions,
    Transformer,
)
from graphformer.patterns import Complete
from graphformer.pretrained.config import Config
from graphformer.pretrained.families.family import Kind


def encoder(
    config: Config,
    *,
    dim: int,
    depth: int,
    num_heads: int,
    hidden_dim: int,
    activation: Callable[[], nn.Module],
    eps: float,
    dropout: float,
    attention_dropout: float,
    position_offset: int = 0,
    token_types: bool = True,
) -> tuple[Embedding, Transformer]:
    """The embedding and the post-norm Transformer of BERT and those like it.

    Args:
        config: for the sizes of tables.
        dim, depth, num_heads, hidden_dim, activation: of the Transformer.
        eps: of the norms.
        dropout, attention_dropout: of units and of attention weights.
        position_offset: rows of the table of positions that come before the first place.
        token_types: whether there are any.
    """
    places = config.size("max_position_embeddings") - position_offset
    embedding = Embedding(
        nn.Embedding(config.size("vocab_size"), dim),
        Positions(dim, places, offset=position_offset),
        types=nn.Embedding(config.size("type_vocab_size"), dim) if token_types else None,
        norm=nn.LayerNorm(dim, eps=eps),
        dropout=dropout,
    )
    transformer = Transformer(
        dim,
        depth,
        num_heads,
        norm=lambda width: nn.LayerNorm(width, eps=eps),
        norm_first=False,
        dropout=dropout,
        attention=lambda _: MultiHeadAttention(dim, num_heads, dropout=attention_dropout),
        mlp=lambda _: FeedForward(dim, hidden_dim, activation=activation),
    )
    return embedding, transformer


def with_head(
    parts: tuple[Embedding, Transformer],
    config: Config,
    kind: Kind,
    tied: bool,
    *,
    transform: nn.Module,
    pooler: nn.Module,
    dropout: float,
) -> Model:
    """A model with the head of a kind.

    Args:
        parts: the embedding and the Transformer.
        config: for the number of classes.
        kind: of the head.
        tied: whether it has the embedding's weights, as one of tokens.
        transform: what comes before the tokens' map.
        pooler: what comes before a text's classes.
        dropout: before the classes of tokens.
    """
    embedding, transformer = parts
    dim, count = tokens_of(embedding).embedding_dim, config.num_labels
    heads: dict[Kind, Callable[[], nn.Module | None]] = {
        "none": lambda: None,
        "embedding": lambda: Pooling("mean"),
        "masked_lm": lambda: token_head(embedding, tied=tied, bias=True, transform=transform),
        "classification": lambda: Head(dim, count, pool="cls", transform=pooler),
        "tagging": lambda: Head(dim, count, transform=Dropout(dropout)),
        "answers": lambda: Head(dim, count),
    }
    return Model(embedding, transformer, heads[kind](), adjacency=Complete())
