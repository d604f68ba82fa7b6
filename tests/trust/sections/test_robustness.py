"""The section on robustness of texts and of one graph."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.trust import given_run, random_split
from torch_geometric.data import Data

from graphformer import models
from graphformer.data import LabelledText
from graphformer.data.graph.node_datasets import FullGraph
from graphformer.patterns import Complete, Edges
from graphformer.tasks import Classification
from graphformer.trust import Run
from graphformer.trust.sections import robustness, robustness_section


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


def test_a_graph_under_random_and_adversarial_edges(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(robustness, "BUDGETS", (0.0, 0.5))
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


def test_other_data_is_named():
    section = robustness_section(given_run({"test": random_split(5, 3, 0)}))
    assert "this run has GivenData" in section.notes[0]
