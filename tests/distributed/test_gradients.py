"""Every parameter has a gradient in every batch, as distributed training requires."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch_geometric.data import Data

from graphformer import models, patterns
from graphformer.data.batch import pack_tokens

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "gat": lambda: models.gat(5, 3, dim=3, num_heads=2),
    "gatv2": lambda: models.gat(5, 3, dim=3, num_heads=2, v2=True, num_edge_features=7),
    "gcn": lambda: models.gcn(5, 3, dim=11),
    "graph transformer": lambda: models.graph_transformer(
        5, 3, dim=6, num_heads=2, num_edge_features=7
    ),
    "gps": lambda: models.gps(5, 3, dim=6, depth=1, num_heads=2, num_edge_features=7),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_batch_without_edges_has_all_gradients(name: str):
    torch.manual_seed(0)
    network = NETWORKS[name]()
    edges = torch.zeros(2, 0, dtype=torch.int64)
    graph = Data(x=torch.randn(13, 5), edge_index=edges, edge_attr=torch.zeros(0, 7))
    network(graph, patterns.Edges()).square().sum().backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


def test_experts_without_a_token_have_gradients():
    network = models.llama(11, dim=12, depth=1, num_heads=2, max_length=13, num_experts=7)
    batch = pack_tokens([[3]])  # one token, 7 experts
    network(batch, patterns.Causal()).square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
