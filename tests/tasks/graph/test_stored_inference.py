"""Outputs of a graph on disk equal those of the same graph in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.stored_graphs import arrays, store
from torch import nn
from torch_geometric.data import Data

from graphformer.models import gat, gcn, gps, graph_transformer
from graphformer.patterns import Complete, Edges
from graphformer.tasks.graph.stored_inference import predict_stored_graph


@pytest.mark.parametrize("self_loops", [False, True])
@pytest.mark.parametrize(
    "network",
    [
        gat(5, 3, dim=7, num_heads=2, depth=3),
        gat(5, 3, dim=7, num_heads=2, num_edge_features=2),
        graph_transformer(5, 3, dim=14, num_heads=2, depth=3, jump="cat", num_edge_features=2),
    ],
    ids=["gat", "gat with edge features", "graph transformer"],
)
def test_outputs_are_those_of_one_call(
    network: nn.Module, self_loops: bool, tmp_path: Path
) -> None:
    given, pattern = arrays(), Edges(self_loops)
    graph = store(tmp_path / "graph", given)
    found = predict_stored_graph(network, graph, tmp_path / "y.npy", pattern, batch_size=23)
    network.eval()
    with torch.no_grad():
        expected = network(Data(**given, lengths=(211,)), pattern)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert np.array_equal(np.load(tmp_path / "y.npy"), found.numpy())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["graph", "y.npy"]


def test_what_is_not_local_is_refused(tmp_path: Path) -> None:
    graph = store(tmp_path / "graph", arrays())

    def predict(network: nn.Module, pattern: Edges | Complete | None = Edges(), size: int = 7):
        return predict_stored_graph(network, graph, tmp_path / "y.npy", pattern, batch_size=size)

    with pytest.raises(TypeError, match="network: got Linear, expected a model"):
        predict(nn.Linear(5, 3))
    for network in (gcn(5, 3, dim=7), gps(5, 3, dim=14, num_heads=2)):
        with pytest.raises(ValueError, match="layers that depend on more than a node"):
            predict(network)
    for pattern in (Complete(), Edges(undirected=True), None):
        with pytest.raises(ValueError, match=r"adjacency: got .*, expected Edges\(\)"):
            predict(gat(5, 3), pattern)
    with pytest.raises(ValueError, match="batch_size: got 0"):
        predict(gat(5, 3), size=0)
    with pytest.raises(ValueError, match="network: got 1 outputs for 7 nodes, expected a model of"):
        predict(graph_transformer(5, 3, dim=14, num_heads=2, pool="mean"))
    assert [path.name for path in tmp_path.iterdir()] == ["graph"]
