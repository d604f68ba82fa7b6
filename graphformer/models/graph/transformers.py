"""Builders of graph transformers: along the edges, and Graphormer over all pairs of nodes."""

from __future__ import annotations

from torch import nn

from graphformer.deprecated import renamed_keywords
from graphformer.models.graph.model import GraphModel
from graphformer.nn import MultiHeadAttention, Transformer
from graphformer.nn.edge_bias import (
    DistanceBias,
    EdgeEncoder,
    FeatureBias,
    PartBias,
    PathBias,
    TypeBias,
)
from graphformer.nn.encodings import GraphEmbedding, parse_encodings
from graphformer.nn.graph import EdgeFeatureAttention, EgoSeparation, Jump, build_transformer
from graphformer.nn.readout import Pairs, Readout, graph_head


@renamed_keywords(num_edge_kinds="num_union_parts")
def graph_transformer(
    num_features: int,
    num_classes: int,
    dim: int = 64,
    depth: int = 2,
    num_heads: int = 4,
    *,
    hidden_dim: int | None = None,
    num_edge_features: int = 0,
    edge_bias: bool = False,
    num_edge_types: int = 0,
    num_union_parts: int = 0,
    num_node_types: int = 0,
    weighted: bool = False,
    encodings: list[str] | None = None,
    separate_ego: bool = False,
    input_activation: bool = False,
    pool: Readout | None = None,
    pairs: Pairs | None = None,
    jump: Jump = "last",
    dropout: float = 0.0,
    attention_dropout: float = 0.0,
) -> GraphModel:
    """The Transformer over the nodes of graphs: dot-product attention along their edges.

    Args:
        num_features: width of the node features.
        num_classes: K.
        dim, depth, num_heads, hidden_dim: of the Transformer.
        num_edge_features: width of `batch.edge_attr`, which joins keys and values; 0 for none.
        edge_bias: let the edge features be a bias instead.
        num_edge_types: types in `batch.edge_type`, each with a bias of its own.
        num_union_parts: parts of the union that the adjacency is, each with a bias of its own.
        num_node_types: types in `batch.node_type`, each with an embedding.
        weighted: multiply logits by `batch.edge_weight`.
        encodings: named as in the data; "shortest_path:d" becomes a bias, others join the nodes.
        separate_ego: keep a node's own features beside the message ("GT-sep").
        input_activation: a GELU after the map of the features.
        pool: answer for graphs: how their nodes are pooled.
        pairs: answer for pairs of nodes, as `PairHead` does.
        jump: which blocks the head reads: the last, all side by side, or the largest of all.
        dropout: on embeddings and residuals.
        attention_dropout: on attention weights.

    Returns:
        A model from features [N, num_features] to logits [N, K], [B, K] if pooled, or [P, K] of
        pairs.

    Raises ValueError for `edge_bias` without edge features, and for unknown names.

    Source: Dwivedi and Bresson, 2021, "A generalization of transformer networks to graphs"; Shi
    et al., 2021 (edge features); Platonov et al., 2023 (ego separation).
    """
    if edge_bias and not num_edge_features:
        raise ValueError("edge_bias needs num_edge_features, the width of batch.edge_attr, got 0")
    features = num_edge_features if not edge_bias else 0

    def attention(_: int) -> nn.Module:
        heads: nn.Module = MultiHeadAttention(dim, num_heads, dropout=attention_dropout)
        if features:
            heads = EdgeFeatureAttention(dim, num_heads, features, dropout=attention_dropout)
        return EgoSeparation(heads, dim) if separate_ego else heads

    transformer, out_dim = build_transformer(
        dim,
        depth,
        num_heads,
        jump=jump,
        hidden_dim=hidden_dim,
        dropout=dropout,
        attention=attention,
    )
    embedding = GraphEmbedding(
        num_features,
        dim,
        encodings=encodings,
        num_node_types=num_node_types,
        activation=nn.GELU() if input_activation else None,
        dropout=dropout,
    )
    biases: list[nn.Module] = []
    if edge_bias:
        biases.append(FeatureBias(num_edge_features, num_heads))
    if num_edge_types:
        biases.append(TypeBias(num_edge_types, num_heads))
    if num_union_parts:
        biases.append(PartBias(num_union_parts, num_heads))
    if "shortest_path" in (numbers := parse_encodings(encodings)):
        biases.append(DistanceBias(numbers["shortest_path"], num_heads))
    edges = EdgeEncoder(biases, features=features, weighted=weighted)
    head = graph_head(out_dim, num_classes, pool=pool, pairs=pairs, num_heads=num_heads)
    return GraphModel(embedding, transformer, head, edges)


def graphormer(
    num_features: int,
    num_classes: int,
    dim: int = 80,
    depth: int = 12,
    num_heads: int = 8,
    *,
    hidden_dim: int | None = None,
    max_degree: int = 64,
    max_distance: int = 5,
    num_edge_features: int = 0,
    virtual_node: bool = False,
    pool: Readout | None = "mean",
    dropout: float = 0.1,
    attention_dropout: float = 0.1,
) -> GraphModel:
    """Graphormer: attention between all nodes of a graph, which hears of its structure by biases.

    The data needs the encodings `degree:max_degree` and `shortest_path:max_distance`, and the
    adjacency should be `Complete`.

    Args:
        num_features: width of the node features.
        num_classes: K.
        dim, depth, num_heads, hidden_dim: of the Transformer; `hidden_dim` is C by default.
        max_degree: the largest degree with an embedding of its own.
        max_distance: the largest distance with a bias of its own, and the longest path read.
        num_edge_features: width of `batch.edge_attr` along paths; 0 for no bias from them.
        virtual_node: whether the data has the encoding `virtual_node`, as published; then
            `pool="last"` reads it.
        pool: how nodes become graphs; None answers for each node.
        dropout: on embeddings and residuals.
        attention_dropout: on attention weights.

    Returns:
        A model from features [N, num_features] to logits [B, K], or [N, K] if not pooled.

    Source: Ying et al., 2021, "Do transformers really perform badly for graph representation?".
    """
    encodings = [f"degree:{max_degree}", *(["virtual_node"] if virtual_node else [])]
    transformer = Transformer(
        dim,
        depth,
        num_heads,
        hidden_dim=dim if hidden_dim is None else hidden_dim,
        dropout=dropout,
        attention_dropout=attention_dropout,
    )
    biases: list[nn.Module] = [DistanceBias(max_distance, num_heads)]
    if num_edge_features:
        biases.append(PathBias(num_edge_features, max_distance, num_heads))
    embedding = GraphEmbedding(num_features, dim, encodings=encodings, dropout=dropout)
    head = graph_head(dim, num_classes, pool=pool, num_heads=num_heads)
    return GraphModel(embedding, transformer, head, EdgeEncoder(biases))
