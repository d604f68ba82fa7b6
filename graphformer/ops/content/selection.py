"""Selection of the edges of adjacencies made from content."""

from __future__ import annotations

import torch
from torch import Tensor

from graphformer.adjacency import Adjacency, ContentAdjacency
from graphformer.ops.offset_bias import OffsetBias


@torch.compiler.disable(reason="edges are selected from queries and keys eagerly")
def select_edges(
    adjacency: ContentAdjacency,
    q: Tensor,
    k: Tensor,
    *,
    bias: Tensor | OffsetBias | None,
    edge_weight: Tensor | None,
    return_weights: bool,
) -> Adjacency:
    """Return the edges of an adjacency made from content, for queries and keys.

    Raises:
        ValueError: when values of edges are given or returned, whose edges the caller cannot know.
    """
    given = {
        "bias": isinstance(bias, Tensor),
        "edge_weight": edge_weight is not None,
        "return_weights": return_weights,
    }
    for name in (name for name, is_given in given.items() if is_given):
        raise ValueError(
            f"{name}: got values of edges with {adjacency.rule}, whose edges are known after their "
            "selection only, expected none; call adjacency.select(q, k), and pass its result"
        )
    return adjacency.select(q, k)
