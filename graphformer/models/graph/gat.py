"""Builders of graph attention networks: GAT and GATv2, as published and with residual blocks."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional as F

from graphformer.adjacency import Adjacency
from graphformer.deprecated import renamed_keywords
from graphformer.models.base import AdjacencyModel, LayerSequence, NodeLayer
from graphformer.models.graph.model import GraphModel
from graphformer.nn import FeedForward, GraphAttention
from graphformer.nn.dropout import Dropout
from graphformer.nn.edge_bias import EdgeEncoder, EdgeWeightMode, PartBias
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
from graphformer.patterns import AdjacencyLike
from graphformer.recorded import recorded

if TYPE_CHECKING:
    from graphformer.batch_type import BatchLike


class GAT(AdjacencyModel):
    """A stack of graph attention layers, with dropout before each and ELU between; see `gat`.

    Args:
        layers: from [N, F] to [N, C], then from [N, C] to [N, C] or logits [N, K].
        dropout: probability of dropping a unit of each layer's input.
        edges: of each layer, from the edge fields of a batch to keyword arguments of attention.
        head: from nodes and the batch to the output; None returns the last layer's output.
        jump: how the layers are combined for the head.
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

    @property
    def depth(self) -> int:
        """The number of layers."""
        return len(self.layers)

    def forward(self, batch: BatchLike, adjacency: AdjacencyLike | None = None) -> Tensor:
        """Return logits [N, K], or the output of the head, from features `batch.x` [N, F].

        Args:
            batch: graphs with the fields that edges and head read.
            adjacency: N x N, a pattern or an edge_index, or one of these for each layer; that of
                the model by default.

        Raises:
            ValueError: when the batch lacks a field, or neither the call nor the model has an
                adjacency.
        """
        resolved = self.resolve_adjacency(batch, adjacency)
        adjacencies = resolved if isinstance(resolved, list) else [resolved] * self.depth
        x, states = node_features(batch, self.num_features), []
        for number, (edges, adjacency) in enumerate(zip(self.edges, adjacencies, strict=True)):
            x = self._layer(number, x, adjacency, **edges(batch, adjacency))
            states.append(x)
        return self._output(states, batch)

    def layer_sequence(self, batch: BatchLike, adjacency: Adjacency) -> LayerSequence:
        """Return the layers, each with dropout before and ELU after it."""
        layers = [
            NodeLayer(partial(self._layer, number), edges(batch, adjacency))
            for number, edges in enumerate(self.edges)
        ]
        x = node_features(batch, self.num_features)
        return LayerSequence(x, layers, partial(self._output, batch=batch), is_local=True)

    def _layer(self, number: int, x: Tensor, adjacency: Adjacency, **values: Tensor) -> Tensor:
        x = self.layers[number](self.dropout(x), adjacency, **values)
        return x if number == self.depth - 1 else F.elu(x)

    def _output(self, states: list[Tensor], batch: BatchLike) -> Tensor:
        if self.head is None:
            return states[-1]
        return self.head(combine_layers(states, self.jump), batch)


@renamed_keywords(num_edge_kinds="num_union_parts")
@recorded
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
    edge_weight_mode: EdgeWeightMode = "multiply",
    pool: Readout | None = None,
    pairs: Pairs | None = None,
    jump: Jump = "last",
) -> GAT:
    """Build the graph attention network as published; its adjacency should have self-loops.

    Args:
        num_features: width of the node features.
        num_classes: K.
        dim: width of a head in the hidden layers.
        depth: number of layers.
        num_heads: heads of the hidden layers, concatenated.
        out_heads: heads of the last layer, averaged. With `pool`, `pairs` or `jump` the last layer
            is like the others, and a head follows.
        dropout: probability of dropping a unit of each layer's input, and an attention weight.
        v2: compute GATv2's scores.
        num_edge_features: width of `batch.edge_attr`, which enters the scores; 0 for none.
        num_union_parts: number of parts of the union that the adjacency is, each with a learned
            bias; 0 for none.
        weighted: read `batch.edge_weight`.
        edge_weight_mode: "multiply" multiplies the logits by it, so that an edge of weight 0 stays
            in the softmax; "log_bias" makes attention proportional to it, and 0 leaves it out.
        pool: how the nodes of a sample are pooled; None for logits by node.
        pairs: logits for node pairs, as in `PairHead`.
        jump: jumping knowledge: "last" uses the last layer, "cat" the concatenation of all layers,
            "max" their elementwise maximum.

    Returns:
        A model from features [N, num_features] to logits [N, K]; [B, K] if pooled; [P, K] of pairs.

    Raises:
        ValueError: for a `depth` below 1, and for an unknown `pool`, `pairs` or `jump`.

    Source: Veličković et al., 2018, section 3.3; Brody et al., 2022 (GATv2); Xu et al., 2018
    (jumping knowledge).
    """
    if depth < 1:
        raise ValueError(f"depth: got {depth}, expected 1 or more")
    check_jump(jump)
    width = dim * num_heads
    plain = pool is None and pairs is None and jump == "last"
    shapes = [(in_dim, dim, num_heads) for in_dim in [num_features] + [width] * (depth - 1)]
    if plain:
        shapes[-1] = (shapes[-1][0], num_classes, out_heads)
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
            edge_weight_mode=edge_weight_mode,
        )
        for *_, heads in shapes
    ]
    if plain:
        return GAT(layers, dropout=dropout, edges=edges)
    out_dim = width * depth if jump == "cat" else width
    head = graph_head(out_dim, num_classes, pool=pool, pairs=pairs, num_heads=num_heads)
    return GAT(layers, dropout=dropout, edges=edges, head=head, jump=jump)


@renamed_keywords(num_edge_kinds="num_union_parts")
@recorded
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
    edge_weight_mode: EdgeWeightMode = "multiply",
    num_node_types: int = 0,
    encodings: list[str] | None = None,
    pool: Readout | None = None,
    pairs: Pairs | None = None,
    jump: Jump = "last",
    dropout: float = 0.2,
    attention_dropout: float = 0.0,
) -> GraphModel:
    """Build a GAT of pre-norm residual blocks, which trains when deep and on heterophilous graphs.

    Args:
        num_features: width of the node features.
        num_classes: K.
        dim: width C of the nodes, all heads together.
        depth: number of blocks.
        num_heads: H; must divide `dim`.
        hidden_dim: width of the feed-forward nets; C by default.
        v2: compute GATv2's scores.
        separate_ego: concatenate a node's own features with the message ("GAT-sep"); the adjacency
            should then have no self-loops. Without it, it should have them.
        num_edge_features, num_union_parts, weighted, edge_weight_mode: as in `gat`.
        num_node_types: number of types in `batch.node_type`, each with an embedding; 0 for none.
        encodings: names of node encodings, as for the data, such as "laplacian:8".
        pool, pairs, jump: as in `gat`.
        dropout: probability of dropping a unit of embeddings and feed-forward nets.
        attention_dropout: probability of dropping an attention weight.

    Returns:
        A model from features [N, num_features] to logits [N, K]; [B, K] if pooled; [P, K] of pairs.

    Raises:
        ValueError: when `num_heads` does not divide `dim`, and for unknown names.

    Source: Platonov et al., 2023, "A critical look at the evaluation of GNNs under heterophily".
    """
    hidden_dim = dim if hidden_dim is None else hidden_dim

    def block() -> ResidualBlock:
        width = dim // num_heads
        edge_dim = num_edge_features or None
        attention: nn.Module = GraphAttention(
            dim, width, num_heads, v2=v2, dropout=attention_dropout, edge_dim=edge_dim
        )
        attention = EgoSeparation(attention, dim) if separate_ego else attention
        mlp = FeedForward(dim, hidden_dim, dropout=dropout)
        return ResidualBlock(attention, mlp, nn.LayerNorm(dim), dropout=dropout)

    if num_heads < 1 or dim % num_heads:
        raise ValueError(f"num_heads: got {num_heads}, expected a divisor of dim {dim}")
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
    edges = EdgeEncoder(
        biases, features=num_edge_features, weighted=weighted, edge_weight_mode=edge_weight_mode
    )
    return GraphModel(embedding, transformer, head, edges)
