"""The section on robustness of texts and of one graph."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.trust import given_run, random_split
from torch_geometric.data import Data

from graphformer import models
from graphformer.data import GraphBatches, LabelledText
from graphformer.data.graph.node_datasets import FullGraph
from graphformer.patterns import Complete, Edges
from graphformer.tasks import Classification
from graphformer.trust import Run
from graphformer.trust.sections import graph_robustness, robustness, robustness_section


class Ring(FullGraph):
    """A ring of 23 nodes; the class is the half of the ring."""

    def read(self) -> Data:
        nodes = torch.arange(23)
        edges = torch.stack([nodes, (nodes + 1) % 23])
        masks = {
            f"{split}_mask": nodes % 3 == i for i, split in enumerate(("train", "val", "test"))
        }
        return Data(
            x=torch.randn(23, 5, generator=torch.Generator().manual_seed(0)),
            y=(nodes > 11).long(),
            edge_index=torch.cat([edges, edges.flip(0)], dim=1),
            **masks,
        )


def test_a_graph_under_random_and_adversarial_changes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(graph_robustness, "BUDGETS", (0.0, 0.5))
    data = Ring()
    data.setup()
    network = models.gat(5, 2, dim=3, num_heads=2, depth=1)
    task = Classification(network, Edges(self_loops=True), num_classes=2, level="node").eval()
    section = robustness_section(Run(task, data))
    table = section.tables[0]
    assert table.columns == ["share of edges", "random removal", "random addition", "PRBCD"]
    clean, half = table.rows
    assert clean[1] == clean[2] == clean[3]
    assert half[3] <= clean[3]
    assert section.metrics["accuracy, PRBCD of 50%"] == half[3]
    features = section.tables[1]
    assert features.columns == ["share of the mean norm", "random features", "attacked features"]
    assert features.rows[0][1] == features.rows[0][2] == clean[1]
    assert features.rows[1][2] == section.metrics["accuracy, attacked features of 50%"] < clean[1]


def test_features_are_attacked_where_edges_are_not_read(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(graph_robustness, "BUDGETS", (0.0, 0.5))
    data = Ring()
    data.setup()
    network = models.graph_transformer(5, 2, dim=8, num_heads=2, depth=1)
    task = Classification(network, Complete(), num_classes=2, level="node").eval()
    section = robustness_section(Run(task, data))
    assert "Edges were not changed: the network reads none" in section.notes[0]
    assert [table.title for table in section.tables] == ["Accuracy by change of features"]
    data.graph.edge_index = data.graph.edge_index[:, :23]
    task.adjacency = Edges()
    assert "in undirected graphs only" in robustness_section(Run(task, data)).notes[0]


class Chains(GraphBatches):
    """Chains of 2 to 6 nodes; the class is the sign of the first feature of all nodes."""

    def read(self) -> list[Data]:
        graphs = []
        for n in range(60):
            nodes = torch.arange(1 + n % 5)
            edges = torch.stack([nodes, nodes + 1])
            x = torch.full((len(nodes) + 1, 3), 1.0 if n % 2 else -1.0)
            y = torch.tensor([n % 2])
            graphs.append(Data(x=x, y=y, edge_index=torch.cat([edges, edges.flip(0)], dim=1)))
        return graphs


class FirstFeature(torch.nn.Module):
    """Logits 0 and the mean over the nodes of the first feature."""

    def forward(self, batch, adjacency):
        means = torch.stack(
            [part.mean() for part in batch.x[:, 0].split(batch.ptr.diff().tolist())]
        )
        return torch.stack([torch.zeros_like(means), means], dim=1)


def test_features_of_a_set_of_graphs(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(graph_robustness, "BUDGETS", (0.0, 0.5, 0.7))
    data = Chains(batch_size=7)
    data.setup()
    task = Classification(FirstFeature(), Edges(), num_classes=2, level="graph").eval()
    section = robustness_section(Run(task, data))
    # All features are 1 or -1, of norm sqrt(3): the sign changes beyond 1 / sqrt(3) = 0.577 of it.
    assert [row[2] for row in section.tables[0].rows] == [1, 1, 0]
    assert "Edges were not changed" in section.notes[0]


def test_texts_over_two_adjacencies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(robustness, "RATES", (0.0, 1.0))
    monkeypatch.setenv("GRAPHFORMER_DATA", str(tmp_path))  # without WordNet
    path = tmp_path / "texts.tsv"
    path.write_text("text\tlabel\n" + "".join(f"a b{i} cd e\t{i % 2}\n" for i in range(23)))
    data = LabelledText(str(path), vocabulary="characters", test_fraction=0.3)
    data.setup()
    network = models.text_classifier(data.vocab_size, 2, dim=8, num_heads=2, depth=1)
    before = list(data.splits["test"])
    task = Classification(network, Complete(), num_classes=2).eval()
    section = robustness_section(Run(task, data))
    assert "Synonyms of WordNet were left out: there is neither" in section.notes[0]
    assert [len(table.rows) for table in section.tables] == [2, 2]
    assert section.tables[0].columns[1:] == [
        "Complete() (the run's)",
        "Window(radius=8, causal=False) (same weights)",
    ]
    assert data.splits["test"] == before
    assert task.adjacency == Complete()


class AlwaysFirst(torch.nn.Module):
    """The first class for every text."""

    def forward(self, batch, adjacency):
        return torch.tensor([[1.0, 0.0]]).expand(len(batch.lengths), 2)


def test_texts_of_all_classes_are_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(robustness, "RATES", (0.0,))
    monkeypatch.setattr(robustness, "SAMPLES", 40)
    monkeypatch.setenv("GRAPHFORMER_DATA", str(tmp_path))  # without WordNet
    path = tmp_path / "texts.tsv"
    rows = [f"a b{i} cd\t{int(i >= 150)}\n" for i in range(300)]  # one class after the other
    path.write_text("text\tlabel\n" + "".join(rows))
    data = LabelledText(str(path), vocabulary="characters", test_fraction=0.5)
    data.setup()
    task = Classification(AlwaysFirst(), Complete(), num_classes=2).eval()
    (row,) = robustness_section(Run(task, data)).tables[0].rows
    assert 0.2 < row[1] < 0.8


def test_other_data_is_named():
    section = robustness_section(given_run({"test": random_split(5, 3, 0)}))
    assert "this run has GivenData" in section.notes[0]
