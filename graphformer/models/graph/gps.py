"""Builders of graph transformers that reach far: GPS, with local layers, and Exphormer."""

from __future__ import annotations

from typing import Literal

from torch import nn
from torch_geometric.nn import GATv2Conv, GCNConv, GINConv, GINEConv

from graphformer.deprecated import renamed_keywords
from graphformer.models.graph.model import GraphModel
from graphformer.nn import Block, FeedForward, MultiHeadAttention
from graphformer.nn.edge_bias import DistanceBias, EdgeEncoder, FeatureBias, PartBias
from graphformer.nn.encodings import GraphEmbedding, parse_encodings
from graphformer.nn.graph import HybridBlock, Jump, NodeNorm, build_transformer
from graphformer.nn.readout import Pairs, Readout, graph_head
from graphformer.pyg import accelerate

Local = Literal["gin", "gcn", "gat"]


@renamed_keywords(num_edge_kinds="num_union_parts")
def gps(
    num_features: int,
    num_classes: int,
    dim: int = 64,
    depth: int = 5,
    num_heads: int = 4,
    *,
    hidden_dim: int | None = None,
    local: Local | None = "gin",
    num_edge_features: int = 0,
    num_union_parts: int = 0,
    num_node_types: int = 0,
    encodings: list[str] | None = None,
    pool: Readout | None = None,
    pairs: Pairs | None = None,
    jump: Jump = "last",
    dropout: float = 0.0,
    attention_dropout: float = 0.5,
) -> GraphModel:
    """Hybrid blocks: messages along the data's edges beside attention over the adjacency.

    The adjacency is of the attention alone: `Complete` as published, or anything sparser.

    Args:
        num_features: width of the node features.
        num_classes: K.
        dim: width C of the nodes.
        depth: number of blocks.
        num_heads: H; must divide `dim`.
        hidden_dim: width of the feed-forward nets; 2 C by default.
        local: the local layer: "gin" (with edge features GINE), "gcn", "gat" (GATv2), or None for
            blocks of attention alone.
        num_edge_features: width of `batch.edge_attr`, for the local layer ("gin" and "gat") and as
            a bias of the attention.
        num_union_parts: parts of the union that the adjacency is, each with a bias of its own.
        num_node_types: types in `batch.node_type`, each with an embedding.
        encodings: named as in the data, such as "random_walk:20".
        pool: answer for graphs: how their nodes are pooled.
        pairs: answer for pairs of nodes, as `PairHead` does.
        jump: which blocks the head reads: the last, all side by side, or the largest of all.
        dropout: on embeddings and residuals.
        attention_dropout: on attention weights.

    Returns:
        A model from features [N, num_features] to logits [N, K], [B, K] if pooled, or [P, K] of
        pairs.

    Source: Rampášek et al., 2022, "Recipe for a general, powerful, scalable graph transformer".
    """
    hidden_dim = 2 * dim if hidden_dim is None else hidden_dim
    reads_edges = local in ("gin", "gat")

    def block() -> nn.Module:
        heads = MultiHeadAttention(dim, num_heads, dropout=attention_dropout)
        mlp = FeedForward(dim, hidden_dim, activation=nn.ReLU, dropout=dropout)
        norms = NodeNorm(dim), NodeNorm(dim)
        if local is None:
            return Block(heads, mlp, *norms, norm_first=False, dropout=dropout)
        layer = _local_layer(local, dim, num_heads, num_edge_features)
        return HybridBlock(layer, heads, mlp, *norms, NodeNorm(dim), dropout=dropout)

    transformer, out_dim = build_transformer(
        dim, depth, num_heads, jump=jump, block=block, norm_first=False
    )
    embedding = GraphEmbedding(
        num_features, dim, encodings=encodings, num_node_types=num_node_types, dropout=dropout
    )
    biases: list[nn.Module] = []
    if num_edge_features:
        biases.append(FeatureBias(num_edge_features, num_heads))
    if num_union_parts:
        biases.append(PartBias(num_union_parts, num_heads))
    if "shortest_path" in (numbers := parse_encodings(encodings)):
        biases.append(DistanceBias(numbers["shortest_path"], num_heads))
    head = graph_head(out_dim, num_classes, pool=pool, pairs=pairs, num_heads=num_heads)
    return GraphModel(
        embedding,
        transformer,
        head,
        EdgeEncoder(biases),
        local=local is not None,
        local_edge_dim=num_edge_features if reads_edges else 0,
    )


@renamed_keywords(num_edge_kinds="num_union_parts")
def exphormer(
    num_features: int,
    num_classes: int,
    dim: int = 64,
    depth: int = 4,
    num_heads: int = 4,
    *,
    hidden_dim: int | None = None,
    local: Local | None = "gcn",
    num_edge_features: int = 0,
    num_union_parts: int = 3,
    num_node_types: int = 0,
    encodings: list[str] | None = None,
    pool: Readout | None = None,
    pairs: Pairs | None = None,
    jump: Jump = "last",
    dropout: float = 0.1,
    attention_dropout: float = 0.1,
) -> GraphModel:
    """GPS whose attention is sparse: over edges of the data, of an expander and of virtual nodes.

    The adjacency is a union, `Edges() | Expander(degree=6) | VirtualNode()`, or of other kinds;
    each part has a bias of its own. Any other adjacency is welcome, its edges of one kind.

    Args:
        num_features, num_classes, dim, depth, num_heads, hidden_dim, local, num_edge_features:
            as in `gps`.
        num_union_parts: parts of the union.
        num_node_types, encodings, pool, pairs, jump, dropout, attention_dropout: as in `gps`;
            `VirtualNode` needs the encoding "virtual_node", which `encodings` should name too.

    Returns:
        A model from features [N, num_features] to logits [N, K], [B, K] if pooled, or [P, K] of
        pairs.

    Source: Shirzad et al., 2023, "Exphormer: sparse transformers for graphs".
    """
    return gps(
        num_features,
        num_classes,
        dim,
        depth,
        num_heads,
        hidden_dim=hidden_dim,
        local=local,
        num_edge_features=num_edge_features,
        num_union_parts=num_union_parts,
        num_node_types=num_node_types,
        encodings=encodings,
        pool=pool,
        pairs=pairs,
        jump=jump,
        dropout=dropout,
        attention_dropout=attention_dropout,
    )


def _local_layer(local: Local, dim: int, num_heads: int, edge_dim: int) -> nn.Module:
    """One of PyG's layers, [N, C] -> [N, C]."""
    if local == "gin":
        net = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim))
        return GINEConv(net, edge_dim=edge_dim) if edge_dim else GINConv(net)
    if local == "gcn":
        return GCNConv(dim, dim)
    if local == "gat":
        width = dim // num_heads
        return accelerate(
            GATv2Conv(dim, width, num_heads, edge_dim=edge_dim or None, add_self_loops=False),
            quiet=True,
        )
    raise ValueError(f"local must be 'gin', 'gcn', 'gat' or None, got {local!r}")
