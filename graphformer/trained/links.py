"""Pairs of nodes and the batch in which a trained model scores them."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.utils import to_undirected

Pairs = Tensor | Sequence[tuple[int, int]]
"""Pairs of nodes: (source, target) by their numbers, or a tensor [2, P]."""


def known_edges(graph: Data) -> Data:
    """Return a graph with its edges in both directions, as `LinkPrediction` trains with them."""
    graph = copy(graph)
    graph.edge_index = to_undirected(graph.edge_index, num_nodes=graph.num_nodes)
    if "edge_attr" in graph:  # data of links have none
        del graph["edge_attr"]
    return graph


def pair_index(pairs: Pairs, num_nodes: int) -> Tensor:
    """Return pairs as a tensor [2, P].

    Raises:
        ValueError: for another shape, no pairs, and numbers of nodes that do not exist.
    """
    if isinstance(pairs, Tensor):
        index = pairs.cpu()
    else:
        index = torch.tensor([list(pair) for pair in pairs]).reshape(len(pairs), -1).T
    if index.ndim != 2 or len(index) != 2 or not index.shape[1] or index.is_floating_point():
        raise ValueError(
            f"pairs: got {list(index.shape)} of {index.dtype}, expected numbers of nodes [2, P] or "
            "a list of (source, target); pass one pair or more"
        )
    if int(index.min()) < 0 or int(index.max()) >= num_nodes:
        wrong = int(index.max()) if int(index.min()) >= 0 else int(index.min())
        raise ValueError(
            f"pairs: got the node {wrong}, expected numbers from 0 to {num_nodes - 1}; number the "
            "nodes by their rows in x"
        )
    return index
