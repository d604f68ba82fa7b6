"""Small graphs that break assumptions: no edges, loops, duplicates, several components."""

from __future__ import annotations

import networkx
import torch
from helpers.awkward import random_edges
from helpers.graphs import undirected
from torch import Tensor
from torch_geometric.data import Data

NO_EDGES = torch.empty(2, 0, dtype=torch.int64)


def graph(nodes: int, edges: Tensor, **fields: object) -> Data:
    """A graph with features of ones [N, 3]."""
    return Data(x=torch.ones(nodes, 3), edge_index=edges, num_nodes=nodes, **fields)


AWKWARD = {
    "one-node": graph(1, NO_EDGES),
    "no-edges": graph(5, NO_EDGES),
    "a-loop": graph(1, torch.tensor([[0], [0]])),
    "loops": graph(7, random_edges(7, 7, 31)),
    "directed": graph(11, random_edges(11, 11, 17)),
    "isolated": graph(13, random_edges(5, 5, 11)),
    "duplicates": graph(5, torch.cat([random_edges(5, 5, 7)] * 2, dim=1)),
    "disconnected": graph(11, torch.tensor([[0, 1, 2, 5, 6, 9], [1, 2, 0, 6, 7, 10]])),
    "hub": undirected(networkx.star_graph(17)),
    "path": undirected(networkx.path_graph(19)),
}
