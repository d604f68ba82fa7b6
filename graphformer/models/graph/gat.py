"""Builders of graph attention networks: GAT and GATv2, as published and with residuals."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from graphformer.deprecated import renamed_keywords
from graphformer.models.graph.model import GraphModel
from graphformer.nn import FeedForward, GraphAttention
from graphformer.nn.dropout import Dropout
from graphformer.nn.edge_bias import EdgeEncoder, PartBias
from graphformer.nn.encodings import GraphEmbedding, node_features
from graphformer.nn.graph import (
    EgoSeparation,
    Jump,
    ResidualBlock,
    build_transformer,
    check_jump,
    combine_layers,
)
from graphformer.nn.readout import Pairs, Readout, graph_head
from graphformer.patterns import AdjacencyLike, resolve_single


class GAT(nn.Module):
    """A stack of graph attention layers with ELU between and dropout before each.

    `gat` builds it.
    """

    def __init__(
        self,
        layers: list[GraphAttention],
        *,
        dropout: float,
        edges: list[EdgeEncoder],
        head: nn.Module | None = None,
        jump: Jump = "last",
    ) -> None:
        super().__init__()
        self.layers, self.edges, self.head = nn.ModuleList(layers), nn.ModuleList(edges), head
        self.dropout, self.jump = Dropout(dropout), jump
        self.num_features = layers[0].source.in_features

    def forward(self, batch: Any, adjacency: AdjacencyLike) -> Tensor:
        """Features `batch.x` [N, F] -> logits [N, K], or what the head makes of all layers."""
        adjacency = resolve_single(adjacency, batch)
        states = [node_features(batch, self.num_features)]
        for layer, edges in zip(self.layers, self.edges, strict=True):
            x = layer(self.dropout(states[-1]), adjacency, **edges(batch, adjacency))
            states.append(F.elu(x) if layer is not self.layers[-1] else x)
        if self.head is None:
            return states[-1]
        return self.head(combine_layers(states[1:], self.jump), batch)


@renamed_keywords(num_edge_kinds="num_union_parts")
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
    num_edge_features: int = 0,
    num_union_parts: int = 0,
    weighted: bool = False,
    pool: Readout | None = None,
    pairs: Pairs | None = None,
    jump: Jump = "last",
) -> GAT:
    """The graph attention network as published; its edges should have self-loops.

    Args:
        num_features: width of the node features.
        num_classes: K.
        dim: width of each hidden head.
        depth: number of layers.
        num_heads: heads of the hidden layers, concatenated.
        out_heads: heads of the last layer, averaged; not for `pool`, `pairs` and `jump`, where
            the last layer is as the others and a head makes the answers.
        dropout: on each layer's input and attention weights.
        v2: score as GATv2.
        num_edge_features: width of `batch.edge_attr`, which the scores hear; 0 for none.
        num_union_parts: parts of the union that the adjacency is, each with a bias of its own.
        weighted: multiply logits by `batch.edge_weight`.
        pool: answer for graphs: how their nodes are pooled.
        pairs: answer for pairs of nodes, as `PairHead` does.
        jump: which layers the head reads: the last, all side by side, or the largest of all.

    Returns:
        A model from features [N, num_features] to logits [N, K], [B, K] if pooled, or [P, K] of
        pairs.

    Raises ValueError for less than one layer, and for an unknown `pool`, `pairs` or `jump`.

    Source: Veličković et al., 2018, section 3.3; Brody et al., 2022; Xu et al., 2018 (jumps).
    """
    if depth < 1:
        raise ValueError(f"depth must be at least 1, got {depth}")
    check_jump(jump)
    width = dim * num_heads
    widths = [num_features] + [width] * (depth - 1)

    plain = pool is None and pairs is None and jump == "last"
    shapes = [(in_dim, dim, num_heads) for in_dim in widths]
    if plain:
        shapes[-1] = (widths[-1], num_classes, out_heads)
    layers = [
        GraphAttention(
            *shape,
            concat=not plain or number < depth - 1,
            v2=v2,
            dropout=dropout,
            edge_dim=num_edge_features or None,
        )
        for number, shape in enumerate(shapes)
    ]
    edges = [
        EdgeEncoder(
            [PartBias(num_union_parts, heads)] if num_union_parts else [],
            features=num_edge_features,
            weighted=weighted,
        )
        for *_, heads in shapes
    ]
    if plain:
        return GAT(layers, dropout=dropout, edges=edges)
    out_dim = width * depth if jump == "cat" else width
    head = graph_head(out_dim, num_classes, pool=pool, pairs=pairs, num_heads=num_heads)
    return GAT(layers, dropout=dropout, edges=edges, head=head, jump=jump)


@renamed_keywords(num_edge_kinds="num_union_parts")
def residual_gat(
    num_features: int,
    num_classes: int,
    dim: int = 512,
    depth: int = 2,
    num_heads: int = 8,
    *,
    hidden_dim: int | None = None,
    v2: bool = False,
    separate_ego: bool = False,
    num_edge_features: int = 0,
    num_union_parts: int = 0,
    weighted: bool = False,
    num_node_types: int = 0,
    encodings: list[str] | None = None,
    pool: Readout | None = None,
    pairs: Pairs | None = None,
    jump: Jump = "last",
    dropout: float = 0.2,
    attention_dropout: float = 0.0,
) -> GraphModel:
    """GAT in pre-norm residual blocks with feed-forward nets, which stands depth and heterophily.

    Args:
        num_features: width of the node features.
        num_classes: K.
        dim: width C of the nodes, all heads together.
        depth: number of blocks.
        num_heads: H; must divide `dim`.
        hidden_dim: width of the feed-forward nets; C by default.
        v2: score as GATv2.
        separate_ego: keep a node's own features beside the message ("GAT-sep"); then its edges
            should have no self-loops, which they should have otherwise.
        num_edge_features, num_union_parts, weighted: as in `gat`.
        num_node_types: types of nodes in `batch.node_type`.
        encodings: of nodes, named as in the data, such as "laplacian:8".
        pool, pairs, jump: as in `gat`.
        dropout: on embeddings and in feed-forward nets.
        attention_dropout: on attention weights.

    Returns:
        A model from features [N, num_features] to logits [N, K], [B, K] or [P, K].

    Source: Platonov et al., 2023, "A critical look at the evaluation of GNNs under heterophily".
    """
    hidden_dim = dim if hidden_dim is None else hidden_dim

    def block() -> ResidualBlock:
        width = dim // num_heads
        edge_dim = num_edge_features or None
        heads: nn.Module = GraphAttention(
            dim, width, num_heads, v2=v2, dropout=attention_dropout, edge_dim=edge_dim
        )
        heads = EgoSeparation(heads, dim) if separate_ego else heads
        mlp = FeedForward(dim, hidden_dim, dropout=dropout)
        return ResidualBlock(heads, mlp, nn.LayerNorm(dim), dropout=dropout)

    if num_heads < 1 or dim % num_heads:
        raise ValueError(f"num_heads must divide dim, got {num_heads} and {dim}")
    transformer, out_dim = build_transformer(dim, depth, num_heads, jump=jump, block=block)
    embedding = GraphEmbedding(
        num_features,
        dim,
        encodings=encodings,
        num_node_types=num_node_types,
        activation=nn.GELU(),
        dropout=dropout,
    )
    head = graph_head(out_dim, num_classes, pool=pool, pairs=pairs, num_heads=num_heads)
    biases = [PartBias(num_union_parts, num_heads)] if num_union_parts else []
    edges = EdgeEncoder(biases, features=num_edge_features, weighted=weighted)
    return GraphModel(embedding, transformer, head, edges)
