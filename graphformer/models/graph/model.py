"""The model of graphs: as any other, but for what their edges carry."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from graphformer.adjacency import Adjacency
from graphformer.models.model import Model
from graphformer.nn import Transformer
from graphformer.nn.edge_bias import EdgeEncoder, edge_features
from graphformer.patterns import AdjacencyLike
from graphformer.patterns.fields import require_tensor


class GraphModel(Model):
    """head(transformer(embedding(batch), adjacency, **edges(batch, adjacency))).

    Args:
        embedding: makes nodes [N, C] of a batch.
        transformer: [N, C] and an adjacency to [N, C].
        head: makes answers of the nodes and the batch.
        edges: makes options of attention of what the batch knows about its edges.
        local: whether blocks pass messages along `batch.edge_index` too, whatever the adjacency.
        local_edge_dim: width of `batch.edge_attr` that these messages read; 0 for none.
    """

    def __init__(
        self,
        embedding: nn.Module,
        transformer: Transformer,
        head: nn.Module,
        edges: EdgeEncoder,
        *,
        local: bool = False,
        local_edge_dim: int = 0,
    ) -> None:
        # Narrower weights than by width: sets of graphs are small, and are learned by heart with
        # wider ones (MUTAG, ten folds: 86.7 % with these, 79.7 % with those of `weight_std`).
        super().__init__(embedding, transformer, head, std=0.02)
        self.edges = edges
        self.local, self.local_edge_dim = local, local_edge_dim

    def forward(self, batch: Any, adjacency: AdjacencyLike | None = None, **options: Any) -> Tensor:
        """Answer for each node, sample or pair of nodes, as the head has it: [..., K].

        Args:
            batch: PyG's `Data` or `Batch`, with what embedding, edges and head read.
            adjacency: who attends to whom, N x N, an `edge_index`, the pattern that says it of a
                batch, or one such a block for a model that reads nothing from edges; by default
                the model's own.
            options: those of the Transformer.

        Raises ValueError for what the batch lacks, and for several adjacencies where the model
        reads edges.
        """
        edges = self._edges(batch, self.adjacency if adjacency is None else adjacency)
        if isinstance(edges, Adjacency):
            options |= self.edges(batch, edges)
        elif not self.edges.empty:
            raise ValueError(
                f"adjacency must be one for all blocks of a model with edge values, got "
                f"{len(edges)}"
            )
        if self.local:
            why = "the model passes messages along edges"
            options["local_edge_index"] = require_tensor(batch, "edge_index", why)
        if self.local_edge_dim:
            options["local_edge_attr"] = edge_features(batch, self.local_edge_dim)
        return super().forward(batch, edges, **options)
