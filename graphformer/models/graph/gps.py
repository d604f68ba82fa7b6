"""Builders of hybrid graph transformers: GPS and Exphormer."""

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
from graphformer.recorded import recorded

LocalLayer = Literal["gin", "gcn", "gat"]
"""PyG's GINConv (GINEConv with edge features), GCNConv or GATv2Conv."""


@renamed_keywords(num_edge_kinds="num_union_parts")
@recorded
def gps(
    num_features: int,
    num_classes: int,
    dim: int = 64,
    depth: int = 5,
    num_heads: int = 4,
    *,
    hidden_dim: int | None = None,
    local: LocalLayer | None = "gin",
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
    """Build a GPS model: message passing along the data's edges in parallel with attention.

    The adjacency is that of the attention only: `Complete` as published, or a sparse one.

    Args:
        num_features: width of the node features.
        num_classes: K.
        dim: width C of the nodes.
        depth: number of blocks.
        num_heads: H; must divide `dim`.
        hidden_dim: width of the feed-forward nets; 2 C by default.
        local: layer of the message passing; None for blocks of attention only.
        num_edge_features: width of `batch.edge_attr`, read by the local layer ("gin" and "gat") and
            by a bias of the attention; 0 for none.
        num_union_parts: number of parts of the union that the adjacency is, each with a learned
            bias; 0 for none.
        num_node_types: number of types in `batch.node_type`, each with an embedding; 0 for none.
        encodings: names of encodings, as for the data, such as "random_walk:20".
        pool: how the nodes of a sample are pooled; None for logits by node.
        pairs: logits for node pairs, as in `PairHead`.
        jump: jumping knowledge: "last" uses the last block, "cat" the concatenation of all blocks,
            "max" their elementwise maximum.
        dropout: probability of dropping a unit of embeddings and residual branches.
        attention_dropout: probability of dropping an attention weight.

    Returns:
        A model from features [N, num_features] to logits [N, K]; [B, K] if pooled; [P, K] of pairs.

    Raises:
        ValueError: for an unknown `local`, `encodings`, `pool`, `pairs` or `jump`, and when
            `num_heads` does not divide `dim`.

    Source: Rampášek et al., 2022, "Recipe for a general, powerful, scalable graph transformer".
    """
    hidden_dim = 2 * dim if hidden_dim is None else hidden_dim
    reads_edge_features = local in ("gin", "gat")

    def block() -> nn.Module:
        attention = MultiHeadAttention(dim, num_heads, dropout=attention_dropout)
        mlp = FeedForward(dim, hidden_dim, activation=nn.ReLU, dropout=dropout)
        norms = NodeNorm(dim), NodeNorm(dim)
        if local is None:
            return Block(attention, mlp, *norms, norm_first=False, dropout=dropout)
        layer = _local_layer(local, dim, num_heads, num_edge_features)
        return HybridBlock(layer, attention, mlp, *norms, NodeNorm(dim), dropout=dropout)

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
        local_edge_dim=num_edge_features if reads_edge_features else 0,
    )


@renamed_keywords(num_edge_kinds="num_union_parts")
@recorded
def exphormer(
    num_features: int,
    num_classes: int,
    dim: int = 64,
    depth: int = 4,
    num_heads: int = 4,
    *,
    hidden_dim: int | None = None,
    local: LocalLayer | None = "gcn",
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
    """Build an Exphormer: GPS with attention over data edges, an expander and virtual nodes.

    As published the adjacency is the union `Edges() | Expander(degree=6) | VirtualNode()`, and each
    part has a learned bias. Any adjacency that is no union works too, without such a bias.

    Args:
        num_features, num_classes, dim, depth, num_heads, hidden_dim, local, num_edge_features:
            as in `gps`.
        num_union_parts: number of parts of the union.
        num_node_types, encodings, pool, pairs, jump, dropout, attention_dropout: as in `gps`;
            with `VirtualNode`, data and model both need the encoding "virtual_node".

    Returns:
        A model from features [N, num_features] to logits [N, K]; [B, K] if pooled; [P, K] of pairs.

    Raises:
        ValueError: as `gps`.

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


def _local_layer(local: LocalLayer, dim: int, num_heads: int, edge_dim: int) -> nn.Module:
    """Return a PyG layer from [N, C] to [N, C]."""
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
    raise ValueError(f"local: got {local!r}, expected 'gin', 'gcn', 'gat' or None")
