"""Random graphs with features, labels and masks."""

from __future__ import annotations

import networkx
import torch
from torch_geometric.data import Data


def random_graph(nodes: int = 101, edges: int = 797, seed: int = 0) -> Data:
    """A directed graph with 5 features, 3 classes, edge ids as `edge_attr`, and three masks."""
    generator = torch.Generator().manual_seed(seed)
    edge_index = torch.randint(nodes, (2, edges), generator=generator)
    masks = torch.randint(3, (nodes,), generator=generator)
    return Data(
        x=torch.randn(nodes, 5, generator=generator),
        y=torch.randint(3, (nodes,), generator=generator),
        edge_index=edge_index,
        edge_attr=torch.arange(edges),
        train_mask=masks == 0,
        val_mask=masks == 1,
        test_mask=masks == 2,
    )


def undirected(graph: networkx.Graph) -> Data:
    """A networkx graph with both directions of each edge, and features of ones [N, 3]."""
    graph = networkx.convert_node_labels_to_integers(graph)
    edges = torch.tensor(list(graph.edges())).T
    nodes = len(graph)
    edge_index = torch.cat([edges, edges.flip(0)], dim=1)
    return Data(x=torch.ones(nodes, 3), edge_index=edge_index, num_nodes=nodes)
