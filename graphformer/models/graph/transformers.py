"""Builders of graph transformers: attention along edges, and Graphormer over all node pairs."""

from __future__ import annotations

from torch import nn

from graphformer.deprecated import renamed_keywords
from graphformer.models.graph.model import GraphModel
from graphformer.nn import MultiHeadAttention, Transformer
from graphformer.nn.block import ActivationCheckpointing
from graphformer.nn.edge_bias import (
    DistanceBias,
    EdgeEncoder,
    EdgeWeightMode,
    FeatureBias,
    PartBias,
    PathBias,
    TimeEncoding,
    TypeBias,
)
from graphformer.nn.encodings import GraphEmbedding, parse_encodings
from graphformer.nn.graph import EdgeFeatureAttention, EgoSeparation, Jump, build_transformer
from graphformer.nn.readout import Pairs, Readout, graph_head
from graphformer.recorded import recorded


@renamed_keywords(num_edge_kinds="num_union_parts")
@recorded
def graph_transformer(
    num_features: int,
    num_classes: int,
    dim: int = 64,
    depth: int = 2,
    num_heads: int = 4,
    *,
    hidden_dim: int | None = None,
    num_edge_features: int = 0,
    num_time_features: int = 0,
    edge_bias: bool = False,
    num_edge_types: int = 0,
    num_union_parts: int = 0,
    num_node_types: int = 0,
    weighted: bool = False,
    edge_weight_mode: EdgeWeightMode = "multiply",
    encodings: list[str] | None = None,
    separate_ego: bool = False,
    input_activation: bool = False,
    pool: Readout | None = None,
    pairs: Pairs | None = None,
    jump: Jump = "last",
    dropout: float = 0.0,
    attention_dropout: float = 0.0,
    activation_checkpointing: ActivationCheckpointing = False,
) -> GraphModel:
    """Build a Transformer over the nodes of graphs, with dot-product attention along their edges.

    Args:
        num_features: width of the node features.
        num_classes: K.
        dim, depth, num_heads, hidden_dim: as in `nn.Transformer`.
        num_edge_features: width of `batch.edge_attr`, which is projected and added to keys and
            values; 0 for none.
        num_time_features: number of features of the time from `batch.edge_time` to the target's
            `batch.node_time`, which are treated like edge features; 0 for none.
        edge_bias: project the edge features to a bias of the logits instead.
        num_edge_types: number of types in `batch.edge_type`, each with a learned bias; 0 for none.
        num_union_parts: number of parts of the union that the adjacency is, each with a learned
            bias; 0 for none.
        num_node_types: number of types in `batch.node_type`, each with an embedding; 0 for none.
        weighted: read `batch.edge_weight`.
        edge_weight_mode: "multiply" multiplies the logits by it, so that an edge of weight 0 stays
            in the softmax; "log_bias" makes attention proportional to it, and 0 leaves it out.
        encodings: names of encodings, as for the data; "shortest_path:d" is a bias of the logits,
            the others are added to the nodes.
        separate_ego: concatenate a node's own features with the message ("GT-sep"); the adjacency
            should then have no self-loops.
        input_activation: apply a GELU to the projected features.
        pool: how the nodes of a sample are pooled; None for logits by node.
        pairs: logits for node pairs, as in `PairHead`.
        jump: jumping knowledge: "last" uses the last block, "cat" the concatenation of all blocks,
            "max" their elementwise maximum.
        dropout: probability of dropping a unit of embeddings and residual branches.
        attention_dropout: probability of dropping an attention weight.
        activation_checkpointing: what is recomputed in the backward pass, as in `nn.Transformer`.

    Returns:
        A model from features [N, num_features] to logits [N, K]; [B, K] if pooled; [P, K] of pairs.

    Raises:
        ValueError: for `edge_bias` without edge features, for unknown names, and when `num_heads`
            does not divide `dim`.

    Source: Dwivedi and Bresson, 2021, "A generalization of transformer networks to graphs"; Shi
    et al., 2021 (edge features); Xu et al., 2020 (features of time); Platonov et al., 2023 (ego
    separation).
    """
    if edge_bias and not num_edge_features:
        raise ValueError(
            "edge_bias: got True without num_edge_features, expected the width of batch.edge_attr; "
            "set both"
        )
    features = num_edge_features if not edge_bias else 0
    edge_dim = features + num_time_features

    def attention(_: int) -> nn.Module:
        module: nn.Module = MultiHeadAttention(dim, num_heads, dropout=attention_dropout)
        if edge_dim:
            module = EdgeFeatureAttention(dim, num_heads, edge_dim, dropout=attention_dropout)
        return EgoSeparation(module, dim) if separate_ego else module

    transformer, out_dim = build_transformer(
        dim,
        depth,
        num_heads,
        jump=jump,
        hidden_dim=hidden_dim,
        dropout=dropout,
        attention=attention,
        activation_checkpointing=activation_checkpointing,
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
    edges = EdgeEncoder(
        biases,
        features=features,
        time=TimeEncoding(num_time_features) if num_time_features else None,
        weighted=weighted,
        edge_weight_mode=edge_weight_mode,
    )
    head = graph_head(out_dim, num_classes, pool=pool, pairs=pairs, num_heads=num_heads)
    return GraphModel(embedding, transformer, head, edges)


@recorded
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
    """Build a Graphormer: attention between all nodes of a graph, with structural biases.

    The data needs the encodings `degree:max_degree` and `shortest_path:max_distance`; the adjacency
    should be `Complete`.

    Args:
        num_features: width of the node features.
        num_classes: K.
        dim, depth, num_heads, hidden_dim: as in `nn.Transformer`; `hidden_dim` is C by default.
        max_degree: largest degree with its own embedding.
        max_distance: largest distance with its own bias, and longest path whose edges are read.
        num_edge_features: width of `batch.edge_attr`, read along shortest paths; 0 for none.
        virtual_node: the data has the encoding `virtual_node`, as published; `pool="last"` then
            reads that node.
        pool: how the nodes of a sample are pooled; None for logits by node.
        dropout: probability of dropping a unit of embeddings and residual branches.
        attention_dropout: probability of dropping an attention weight.

    Returns:
        A model from features [N, num_features] to logits [B, K], or [N, K] if not pooled.

    Raises:
        ValueError: for an unknown `pool`, and when `num_heads` does not divide `dim`.

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
