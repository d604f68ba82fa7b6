"""Link predictions in the sections on calibration and privacy, with figures by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score
from torch_geometric.data import Data

from graphformer.data.graph.node_datasets import FullGraph
from graphformer.patterns import SelfLoops
from graphformer.tasks import LinkPrediction
from graphformer.trust import Run
from graphformer.trust.sections import calibration_section, privacy_section


def pairs(graph: Data, split: str, scores: torch.Tensor, labels: torch.Tensor | None) -> None:
    """Give a graph pairs of nodes of its own, whose product of features is the score."""
    start = len(graph.x)
    graph.x = torch.cat([graph.x, torch.stack([scores, torch.ones(len(scores))], 1).reshape(-1, 1)])
    graph[f"{split}_edge_label_index"] = start + torch.arange(2 * len(scores)).view(-1, 2).T
    if labels is not None:
        graph[f"{split}_edge_label"] = labels


@pytest.fixture
def run() -> Run:
    """Scores three times the log-odds with which the labels are drawn."""
    generator = torch.Generator().manual_seed(0)
    graph = Data(x=torch.zeros(0, 1), edge_index=torch.zeros(2, 0, dtype=torch.long))
    for split, count in (("val", 1009), ("test", 2003)):
        odds = 1.5 * torch.randn(count, generator=generator)
        labels = torch.bernoulli(odds.sigmoid(), generator=generator).long()
        pairs(graph, split, 3 * odds, labels)
    pairs(graph, "train", 3 * torch.randn(401, generator=generator) + 1, None)
    data = GivenGraph()
    data.graph = graph
    return Run(LinkPrediction(Given(), SelfLoops()), data)


class GivenGraph(FullGraph):
    """One graph, whose file is not read."""

    def read(self) -> Data:
        raise NotImplementedError


class Given(torch.nn.Module):
    """The features as embeddings."""

    def forward(self, batch, adjacency):
        return batch.x


def figures(run: Run) -> tuple[np.ndarray, np.ndarray]:
    graph = run.data.graph
    first, second = graph.x[graph.test_edge_label_index].squeeze(2)
    return (first * second).numpy().astype(float), graph.test_edge_label.numpy()


def binned_error(probability: np.ndarray, y: np.ndarray) -> float:
    index = np.minimum((15 * probability).astype(int), 14)
    return sum(
        (index == b).mean() * abs(probability[index == b].mean() - y[index == b].mean())
        for b in np.unique(index)
    )


def test_probabilities_of_edges(run: Run):
    section = calibration_section(run)
    scores, y = figures(run)
    temperature = float(section.tables[0].columns[2].split()[1])
    assert temperature == pytest.approx(3, rel=0.15)
    for suffix, divisor in (("", 1.0), (" after temperature scaling", temperature)):
        probability = 1 / (1 + np.exp(-scores / divisor))
        tolerance = 1e-6 if divisor == 1 else 1e-3  # the temperature has four digits in the table
        error = section.metrics["ECE" + suffix]
        assert error == pytest.approx(binned_error(probability, y), abs=tolerance)
        brier = section.metrics["Brier score" + suffix]
        assert brier == pytest.approx(brier_score_loss(y, probability), abs=tolerance)
    rows = {row[0]: row[1] for row in section.tables[0].rows}
    assert rows["cross-entropy"] == pytest.approx(log_loss(y, 1 / (1 + np.exp(-scores))), abs=1e-6)
    assert section.metrics["accuracy"] == pytest.approx(((scores > 0) == y).mean())
    assert section.metrics["conformal coverage"] == pytest.approx(0.9, abs=0.04)
    assert "temperature" not in section.metrics  # `predict` writes logits of pairs as they are
    assert "is not stored" in section.notes[0]


def test_membership_of_edges(run: Run):
    section = privacy_section(run)
    graph = run.data.graph
    first, second = graph.x[graph.train_edge_label_index].squeeze(2)
    scores, y = figures(run)
    both = np.concatenate([(first * second).numpy(), scores[y == 1]])
    members = np.arange(len(both)) < 401
    found = section.metrics["AUC of membership inference"]
    assert found == pytest.approx(roc_auc_score(members, both), abs=1e-6)
    assert [row[1] for row in section.tables[0].rows] == [401, int(y.sum())]
