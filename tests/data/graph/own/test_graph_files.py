"""Files of several own graphs: labels, some of them unknown, and balanced training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch_geometric.data import Data

from graphformer.data import GraphFile


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_graphs_with_several_labels_some_unknown(folder: Path) -> None:
    graphs = [
        Data(
            x=torch.ones(3, 2),
            edge_index=torch.tensor([[0, 1], [1, 2]]),
            y=torch.tensor([[float(i % 2), 1.0, float("nan") if i % 3 else 0.0]]),
        )
        for i in range(13)
    ]
    torch.save(graphs, "graphs.pt")
    module = GraphFile("graphs.pt", num_folds=3)
    module.setup()
    assert module.num_classes == 3
    batch = next(iter(module.test_dataloader()))
    assert set(batch.y[:, 2].tolist()) == {0, -100}
    assert set(batch.y[:, 0].tolist()) == {0, 1}


def test_balanced_training_graphs(folder: Path) -> None:
    graphs = [
        Data(x=torch.full((3, 2), float(i)), edge_index=torch.zeros(2, 1).long(), y=i % 5 // 4)
        for i in range(23)
    ]
    for graph in graphs:
        graph.y = torch.tensor([graph.y])
    torch.save(graphs, "graphs.pt")
    module = GraphFile("graphs.pt", num_folds=3, balanced=True)
    module.setup()
    y = torch.cat([batch.y for batch in module.train_dataloader()])
    assert len(set(torch.bincount(y).tolist())) == 1
    assert len(y) > len(module.train_labels())
