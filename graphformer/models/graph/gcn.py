"""What attention has to beat: networks without it, wrapped so that they take a batch."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn
from torch_geometric import nn as pyg

from graphformer.nn import Head
from graphformer.nn.encodings import node_features
from graphformer.patterns import AdjacencyLike, resolve_single


class GCN(nn.Module):
    """PyG's GCN over the edges of an adjacency, with a linear head; `gcn` builds it."""

    def __init__(self, layers: pyg.GCN, head: Head | None, *, dropout: float) -> None:
        super().__init__()
        self.layers, self.head, self.dropout = layers, head, nn.Dropout(dropout)

    def forward(self, batch: Any, adjacency: AdjacencyLike) -> Tensor:
        """Features `batch.x` [N, F] -> logits [N, K], or [B, K] if pooled."""
        features = node_features(batch, self.layers.in_channels)
        x: Tensor = self.layers(self.dropout(features), resolve_single(adjacency, batch).edge_index)
        return x if self.head is None else self.head(x, batch)


def gcn(
    num_features: int,
    num_classes: int,
    dim: int = 64,
    depth: int = 2,
    *,
    pool: Literal["mean", "sum", "max"] | None = None,
    norm: Literal["batch", "layer"] | None = None,
    residual: bool = False,
    dropout: float = 0.0,
) -> GCN:
    """A graph convolutional network of PyG's own layers; they add self-loops by themselves.

    Args:
        num_features: width of the node features.
        num_classes: K.
        dim: width of the hidden layers.
        depth: number of layers; the last of them gives the logits unless there is a pooling, a
            norm or jumping connections, which end in a linear map.
        pool: how nodes become graphs; None answers for each node.
        norm: between the layers.
        residual: concatenate the outputs of all layers (jumping knowledge).
        dropout: on each layer's input.

    Returns:
        A model from features [N, num_features] to logits [N, K], or [B, K] if pooled.

    Source: Kipf and Welling, 2017; Luo et al., 2024, "Classic GNNs are strong baselines".
    """
    plain = pool is None and norm is None and not residual
    layers = pyg.GCN(
        num_features,
        dim,
        depth,
        num_classes if plain else dim,
        dropout=dropout,
        norm=norm,
        norm_kwargs={"allow_single_element": True} if norm == "batch" else None,
        jk="cat" if residual else None,
    )
    head = None if plain else Head(dim, num_classes, pool=pool)
    return GCN(layers, head, dropout=dropout)
