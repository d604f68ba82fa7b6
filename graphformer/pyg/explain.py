"""Explanations by attention weights for PyG's `Explainer`."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch_geometric.explain import Explanation
from torch_geometric.explain.algorithm import ExplainerAlgorithm
from torch_geometric.explain.config import ExplanationType, ModelTaskLevel

from graphformer.adjacency import Adjacency
from graphformer.nn.record import record_attention, weights_on_edges


class AttentionWeights(ExplainerAlgorithm):
    """Explains a network by the attention weights of its `graphformer.nn` modules on each edge.

    The counterpart of PyG's `AttentionExplainer`, which explains PyG's layers, accelerated or not.
    For `Explainer(model, algorithm=AttentionWeights(), ...)` with `explanation_type="model"`,
    `edge_mask_type="object"` and no node mask. The model is called as `model(x, edge_index)`.

    Args:
        reduce: how the weights of heads and layers are reduced to one number per edge.

    Raises:
        ValueError: when `reduce` is unknown.
    """

    def __init__(self, reduce: Literal["max", "mean", "min"] = "max") -> None:
        super().__init__()
        if reduce not in ("max", "mean", "min"):
            raise ValueError(
                f"reduce: got {reduce!r}, expected 'max', 'mean' or 'min'; use one of them"
            )
        self.reduce = reduce

    def forward(
        self,
        model: nn.Module,
        x: Tensor,
        edge_index: Tensor,
        *,
        target: Tensor,
        index: int | Tensor | None = None,
        **kwargs: Any,
    ) -> Explanation:
        """Return an Explanation with `edge_mask` [E].

        Raises:
            ValueError: when the model calls no attention module of `graphformer.nn`.
        """
        with record_attention(model) as recorded:
            model(x, edge_index, **kwargs)
        if not recorded:
            raise ValueError(
                f"model: got {type(model).__name__}, which calls no attention of graphformer.nn, "
                "expected one that does; use PyG's AttentionExplainer for PyG's layers"
            )
        weights = torch.cat(weights_on_edges(recorded, edge_index), dim=1).detach()
        mask = weights.mean(1) if self.reduce == "mean" else getattr(weights, f"a{self.reduce}")(1)
        if index is not None and self.model_config.task_level == ModelTaskLevel.node:
            reached = receptive_field([record.adjacency for record in recorded], index, len(x))
            mask = mask * (reached[edge_index[0]] & reached[edge_index[1]])
        return Explanation(edge_mask=mask)

    def supports(self) -> bool:
        """Return whether the Explainer asks for a mask of edges that explains the model."""
        config = self.explainer_config
        return config.explanation_type == ExplanationType.model and config.node_mask_type is None


def receptive_field(adjacencies: list[Adjacency], index: int | Tensor, num_nodes: int) -> Tensor:
    """Return which nodes the outputs at `index` depend on, bool [N].

    Args:
        adjacencies: those of a model's layers, first to last; layers keep the node itself.
        index: the nodes of the outputs.
        num_nodes: N. All nodes are returned if an adjacency is over other nodes.
    """
    device = adjacencies[0].device
    reached = torch.zeros(num_nodes, dtype=torch.bool, device=device)
    reached[index] = True
    for adjacency in reversed(adjacencies):
        if adjacency.shape != (num_nodes, num_nodes):
            return torch.ones_like(reached)
        source, target = adjacency.edge_index
        reached[source[reached[target]]] = True
    return reached
