"""The attention of graphformer's modules for PyG's `Explainer`."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch_geometric.explain import Explanation
from torch_geometric.explain.algorithm import ExplainerAlgorithm
from torch_geometric.explain.config import ExplanationType, ModelTaskLevel
from torch_geometric.utils import k_hop_subgraph

from graphformer.nn.record import record_attention, weights_on_edges


class AttentionWeights(ExplainerAlgorithm):
    """Explains a network by the attention of its `graphformer.nn` modules, edge by edge.

    What PyG's `AttentionExplainer` is for PyG's layers, accelerated or not: for
    `Explainer(model, algorithm=AttentionWeights(), ...)` with `explanation_type="model"`,
    `edge_mask_type="object"` and no node mask. The model is called as `model(x, edge_index)`.

    Args:
        reduce: how heads and layers become one number an edge.

    Raises ValueError for an unknown `reduce`.
    """

    def __init__(self, reduce: Literal["max", "mean", "min"] = "max") -> None:
        super().__init__()
        if reduce not in ("max", "mean", "min"):
            raise ValueError(f"reduce must be 'max', 'mean' or 'min', got {reduce!r}")
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
        """Return an Explanation with `edge_mask` [E]; ValueError for a model without attention."""
        with record_attention(model) as recorded:
            model(x, edge_index, **kwargs)
        if not recorded:
            raise ValueError(
                f"{type(model).__name__} called no attention module of graphformer.nn: for PyG's "
                "layers take PyG's AttentionExplainer"
            )
        weights = torch.cat(weights_on_edges(recorded, edge_index), dim=1).detach()
        mask = weights.mean(1) if self.reduce == "mean" else getattr(weights, f"a{self.reduce}")(1)
        if index is not None and self.model_config.task_level == ModelTaskLevel.node:
            near = k_hop_subgraph(index, len(recorded), edge_index, num_nodes=len(x))[3]
            mask = mask * near  # what is further away cannot matter
        return Explanation(edge_mask=mask)

    def supports(self) -> bool:
        """Whether the Explainer asks for what there is: edges that matter to the model."""
        config = self.explainer_config
        return config.explanation_type == ExplanationType.model and config.node_mask_type is None
