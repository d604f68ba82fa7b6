"""Builders of graph models."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from graphformer.adjacency import Adjacency
from graphformer.models.model import Model
from graphformer.nn import Embedding, GraphAttention, Head, Transformer
from graphformer.nn.head import Pool


def graph_transformer(
    num_features: int,
    num_classes: int,
    dim: int = 64,
    depth: int = 2,
    num_heads: int = 4,
    *,
    hidden_dim: int | None = None,
    pool: Pool | None = None,
    dropout: float = 0.0,
    attention_dropout: float = 0.0,
) -> Model:
    """The Transformer over the nodes of graphs: dot-product attention along their edges.

    Args:
        num_features: width of the node features.
        num_classes: K.
        dim, depth, num_heads, hidden_dim: of the Transformer.
        pool: how nodes become graphs; None answers for each node.
        dropout: on embeddings and residuals.
        attention_dropout: on attention weights.

    Returns:
        A model from features [N, num_features] to logits [N, K], or [B, K] if pooled.

    Source: Dwivedi and Bresson, 2021, "A generalization of transformer networks to graphs".
    """
    transformer = Transformer(
        dim,
        depth,
        num_heads,
        hidden_dim=hidden_dim,
        dropout=dropout,
        attention_dropout=attention_dropout,
    )
    embedding = Embedding(nn.Linear(num_features, dim), dropout=dropout)
    return Model(embedding, transformer, Head(dim, num_classes, pool=pool))


class GAT(nn.Module):
    """A stack of graph attention layers with ELU between and dropout before each.

    `gat` builds it.
    """

    def __init__(self, layers: list[GraphAttention], *, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.dropout = nn.Dropout(dropout)

    def forward(self, batch: Any, adjacency: Adjacency) -> Tensor:
        """Features `batch.x` [N, F] -> logits [N, K]."""
        *hidden, last = self.layers
        x = batch.x
        for layer in hidden:
            x = F.elu(layer(self.dropout(x), adjacency))
        return last(self.dropout(x), adjacency)


def gat(
    num_features: int,
    num_classes: int,
    dim: int = 8,
    depth: int = 2,
    num_heads: int = 8,
    *,
    out_heads: int = 1,
    dropout: float = 0.6,
    v2: bool = False,
) -> GAT:
    """The graph attention network as published; its edges should have self-loops.

    Args:
        num_features: width of the node features.
        num_classes: K.
        dim: width of each hidden head.
        depth: number of layers.
        num_heads: heads of the hidden layers, concatenated.
        out_heads: heads of the last layer, averaged.
        dropout: on each layer's input and attention weights.
        v2: score as GATv2.

    Returns:
        A model from features [N, num_features] to logits [N, K].

    Source: Veličković et al., 2018, section 3.3; Brody et al., 2022.
    """
    widths = [num_features] + [dim * num_heads] * (depth - 1)
    layers = [
        GraphAttention(width, dim, num_heads, v2=v2, dropout=dropout) for width in widths[:-1]
    ]
    layers.append(
        GraphAttention(widths[-1], num_classes, out_heads, concat=False, v2=v2, dropout=dropout)
    )
    return GAT(layers, dropout=dropout)
