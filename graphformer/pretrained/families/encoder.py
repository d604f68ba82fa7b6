"""Shared by BERT, DistilBERT and RoBERTa: embedding, Transformer and heads of a config."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from graphformer.models import Model
from graphformer.models.text.trunk import token_head
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


def encoder_parts(
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
    embedding_dim: int | None = None,
    position_encoding: nn.Module | None = None,
    norm_first: bool = False,
    attention: Callable[[int], nn.Module] | None = None,
    mlp: Callable[[int], nn.Module] | None = None,
) -> tuple[Embedding, Transformer]:
    """Build the embedding and the Transformer of BERT and similar models.

    Args:
        config: with the sizes of the embedding tables.
        dim, depth, num_heads, hidden_dim, activation: of the Transformer.
        eps: of the normalizations.
        dropout: dropout probability of embeddings and residual branches.
        attention_dropout: dropout probability of attention weights.
        position_offset: rows of the position table before the first position.
        token_types: whether there is an embedding of token types.
        embedding_dim: width of the embedding tables, from which a linear map leads to `dim`; `dim`
            by default, without such a map.
        position_encoding: positions that act within attention.
        norm_first: pre-norm instead of post-norm.
        attention, mlp: build the parts of a block in place of those by the sizes above.
    """

    def usual_attention(_: int) -> nn.Module:
        return MultiHeadAttention(dim, num_heads, dropout=attention_dropout)

    width = embedding_dim or dim
    num_positions = config.size("max_position_embeddings") - position_offset
    embedding = Embedding(
        nn.Embedding(config.size("vocab_size"), width),
        Positions(width, num_positions, offset=position_offset),
        types=nn.Embedding(config.size("type_vocab_size"), width) if token_types else None,
        norm=nn.LayerNorm(width, eps=eps),
        dropout=dropout,
        projection=None if width == dim else nn.Linear(width, dim),
    )
    transformer = Transformer(
        dim,
        depth,
        num_heads,
        norm=lambda width: nn.LayerNorm(width, eps=eps),
        norm_first=norm_first,
        dropout=dropout,
        attention=attention or usual_attention,
        mlp=mlp or (lambda _: FeedForward(dim, hidden_dim, activation=activation)),
        position_encoding=position_encoding,
    )
    return embedding, transformer


def model_with_head(
    parts: tuple[Embedding, Transformer],
    config: Config,
    kind: Kind,
    tied: bool,
    *,
    transform: nn.Module,
    pooler: nn.Module,
    dropout: float,
    detector: nn.Module | None = None,
) -> Model:
    """Build a model with a kind of head.

    Args:
        parts: the embedding and the Transformer.
        config: with the number of classes.
        kind: of the head.
        tied: whether a masked LM head shares the embedding's weight.
        transform: layers before the masked LM head.
        pooler: layers before the classification head.
        dropout: dropout probability before the tagging head.
        detector: layers before the head that detects replaced tokens.
    """
    embedding, transformer = parts
    dim, count = transformer.dim, config.num_labels
    own_pool = config.get("classifier_pooling", None)  # of a head that replaced the architecture's
    heads: dict[Kind, Callable[[], nn.Module | None]] = {
        "none": lambda: None,
        "embedding": lambda: Pooling("mean"),
        "masked_lm": lambda: token_head(embedding, tied=tied, bias=True, transform=transform),
        "classification": lambda: (
            Head(dim, count, pool=own_pool)
            if own_pool
            else Head(dim, count, pool="cls", transform=pooler)
        ),
        "tagging": lambda: Head(dim, count, transform=Dropout(dropout)),
        "answers": lambda: Head(dim, count),
        "detection": lambda: Head(dim, 1, transform=detector),
    }
    return Model(embedding, transformer, heads[kind](), adjacency=Complete())
