"""Builder of graph convolutional networks, the baseline without attention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn
from torch_geometric import nn as pyg

from graphformer.deprecated import converted_arguments
from graphformer.models.base import AdjacencyModel
from graphformer.nn import Head
from graphformer.nn.encodings import node_features
from graphformer.nn.graph import Jump, NodeNorm, check_jump
from graphformer.patterns import AdjacencyLike
from graphformer.recorded import recorded

if TYPE_CHECKING:
    from graphformer.batch_type import BatchLike


class GCN(AdjacencyModel):
    """PyG's GCN over the edges of an adjacency, with an optional linear head; see `gcn`.

    Args:
        layers: PyG's stack of layers.
        head: from nodes [N, C] and the batch to the output; None returns the nodes.
        dropout: probability of dropping an input feature.
    """

    def __init__(self, layers: pyg.GCN, head: Head | None, *, dropout: float) -> None:
        super().__init__()
        self.layers, self.head, self.dropout = layers, head, nn.Dropout(dropout)

    @property
    def depth(self) -> int:
        """1: PyG's layers share one adjacency."""
        return 1

    def forward(self, batch: BatchLike, adjacency: AdjacencyLike | None = None) -> Tensor:
        """Return logits by node [N, K], or by sample [B, K], from features `batch.x` [N, F].

        Args:
            batch: graphs.
            adjacency: N x N, a pattern or an edge_index; that of the model by default.

        Raises:
            ValueError: when the batch lacks features, or there is no adjacency, or several.
        """
        features = node_features(batch, self.layers.in_channels)
        edges = self.resolve_single_adjacency(batch, adjacency)
        x: Tensor = self.layers(self.dropout(features), edges.edge_index)
        return x if self.head is None else self.head(x, batch)


def _residual_to_jump(arguments: dict[str, Any]) -> dict[str, Any] | None:
    """Convert `residual`, the old name of jumping knowledge by concatenation."""
    if "residual" not in arguments:
        return None
    if "jump" in arguments:
        raise TypeError("jump: got residual as well, its old name; pass jump alone")
    converted = dict(arguments)
    converted["jump"] = "cat" if converted.pop("residual") else "last"
    return converted


@converted_arguments(_residual_to_jump, "num_features", "num_classes", "dim", "depth")
@recorded
def gcn(
    num_features: int,
    num_classes: int,
    dim: int = 64,
    depth: int = 2,
    *,
    pool: Literal["mean", "sum", "max"] | None = None,
    norm: Literal["batch", "layer"] | None = None,
    jump: Jump = "last",
    dropout: float = 0.0,
) -> GCN:
    """Build a graph convolutional network from PyG's layers, which add self-loops themselves.

    Args:
        num_features: width of the node features.
        num_classes: K.
        dim: width of the hidden layers.
        depth: number of layers. The last one returns the logits, unless there is a `pool`, `norm`
            or `jump`: then a linear map follows.
        pool: how the nodes of a sample are pooled; None for logits by node.
        norm: normalisation between the layers.
        jump: jumping knowledge: "last" uses the last layer, "cat" the concatenation of all layers,
            "max" their elementwise maximum.
        dropout: probability of dropping a unit of each layer's input.

    Returns:
        A model from features [N, num_features] to logits [N, K], or [B, K] if pooled.

    Raises:
        ValueError: for an unknown `jump`.

    Source: Kipf and Welling, 2017; Xu et al., 2018 (jumping knowledge); Luo et al., 2024, "Classic
    GNNs are strong baselines".
    """
    check_jump(jump)
    plain = pool is None and norm is None and jump == "last"
    layers = pyg.GCN(
        num_features,
        dim,
        depth,
        num_classes if plain else dim,
        dropout=dropout,
        norm=norm,
        jk=None if jump == "last" else jump,
    )
    for layer in layers.norms:
        if isinstance(layer, pyg.BatchNorm):  # it does not exchange statistics between ranks
            layer.module = NodeNorm(dim)
    head = None if plain else Head(dim, num_classes, pool=pool)
    return GCN(layers, head, dropout=dropout)
