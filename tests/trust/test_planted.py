"""Whole reports of the command's sections on runs with a planted bias and planted leaks.

Figures are computed again by scikit-learn or by hand.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, recall_score, roc_auc_score
from torch import Tensor, nn
from torch_geometric.data import Data

from graphformer.data import BatchLoader, LabelledText
from graphformer.data.base import DataModule
from graphformer.data.graph.encodings import Degree
from graphformer.data.graph.link_splits import split_links
from graphformer.data.graph.node_datasets import FullGraph
from graphformer.data.loader import BatchSampler
from graphformer.patterns import Edges, SelfLoops
from graphformer.tasks import Classification, Regression
from graphformer.trust import Run
from graphformer.trust.privacy import membership_inference
from graphformer.trust.sections import SECTIONS
from graphformer.trust.sections.privacy import losses as losses_of


class WrongForBooks(nn.Module):
    """Reads the class of a text, 0 or 1, in its first byte; says 0 of every text on a book."""

    def forward(self, batch, adjacency):
        texts = [bytes(part.tolist()) for part in batch.x.split(list(batch.lengths))]
        classes = [0 if b"book" in text else text[0] - ord("0") for text in texts]
        return 4.0 * torch.eye(2)[torch.tensor(classes)]


@pytest.fixture
def biased(tmp_path: Path) -> Run:
    """Texts on books and films; three test texts are in the training file as well."""
    generator = np.random.default_rng(0)
    lines = [
        (f"{i % 2} {('book', 'film')[generator.integers(2)]} number {i}", i % 2) for i in range(211)
    ]
    split = {"train": lines[:101], "val": lines[101:150], "test": [*lines[150:], *lines[:3]]}
    for name, rows in split.items():
        table = "".join(f"{t}\t{y}\t{t.split()[1]}\n" for t, y in rows)
        (tmp_path / f"{name}.tsv").write_text(f"text\tlabel\tgenre\n{table}")
    paths = [str(tmp_path / f"{name}.tsv") for name in ("train", "val", "test")]
    data = LabelledText(*paths, vocabulary="bytes")
    data.setup()
    task = Classification(WrongForBooks(), SelfLoops(), num_classes=2).eval()
    return Run(task, data, group="genre")


def test_a_planted_bias_is_found_and_named(biased: Run):
    section = SECTIONS["fairness"](biased)
    texts = biased.data.splits["test"]
    y = np.array([int(label) for _, label in texts])
    is_book = np.array(["book" in text for text, _ in texts])
    predicted = np.where(is_book, 0, y)
    accuracy = accuracy_score(y[is_book], predicted[is_book])
    assert section.metrics["gap of accuracy by genre"] == pytest.approx(1 - accuracy)
    assert f"lowest for book ({accuracy:.4f}), highest for film (1.0000)" in section.notes[-1]
    gaps = {row[0]: row for row in section.tables[2].rows}
    assert gaps["accuracy"][4] < 0.01
    recalls = [recall_score(y[own], predicted[own]) for own in (is_book, ~is_book)]
    assert gaps["recall of class 1"][1] == pytest.approx(recalls[1] - recalls[0]) == 1
    assert gaps["recall of class 0"][1] == 0
    rates = [predicted[own].mean() for own in (is_book, ~is_book)]
    assert gaps["rate of predicting 1"][1] == pytest.approx(rates[1] - rates[0])


def test_planted_duplicates_are_found_and_named(biased: Run):
    section = SECTIONS["leaks"](biased)
    assert section.metrics["samples of test that train contains"] == 3
    assert section.metrics["samples of val that train contains"] == 0
    found = [row for row in section.tables[1].rows if row[2] == "test"]
    assert sorted(row[1] for row in found) == [0, 1, 2]
    assert "Duplicates make test figures too good." in section.notes[0]


def test_figures_of_the_biased_run_by_hand(biased: Run):
    metrics = SECTIONS["calibration"](biased).metrics
    texts = biased.data.splits["test"]
    wrong = np.mean(["book" in text and label == "1" for text, label in texts])
    likely = 1 / (1 + np.exp(-4.0))
    assert metrics["accuracy"] == pytest.approx(1 - wrong)
    assert metrics["ECE"] == pytest.approx(abs(likely - (1 - wrong)), abs=1e-6)  # one bin
    brier = 2 * ((1 - wrong) * (1 - likely) ** 2 + wrong * likely**2)
    assert metrics["Brier score"] == pytest.approx(brier, abs=1e-6)
    # The best temperature makes the probability the accuracy on the validation split.
    right = np.mean([not ("book" in t and y == "1") for t, y in biased.data.splits["val"]])
    assert metrics["temperature"] == pytest.approx(4 / np.log(right / (1 - right)), rel=1e-3)
    losses = {
        split: [-np.log(1 - likely if "book" in t and y == "1" else likely) for t, y in rows]
        for split, rows in biased.data.splits.items()
    }
    members = np.repeat([1, 0], [len(losses["train"]), len(losses["test"])])
    area = roc_auc_score(members, -np.array([*losses["train"], *losses["test"]]).round(4))
    found = membership_inference(*(losses_of(biased.outputs(s)) for s in ("train", "test")))
    assert found.auc == pytest.approx(area, abs=1e-6)


class LeakingLinks(FullGraph):
    """A ring with hidden edges: two test edges stay in the graph, degrees are of all edges."""

    def read(self) -> Data:
        nodes = torch.arange(41)
        edges = torch.stack([nodes, (nodes + 1) % 41])
        split = split_links(edges, 41, val_fraction=0.1, test_fraction=0.2, seed=0)
        graph = Data(x=torch.ones(41, 1), **split)
        whole = Degree()(Data(x=graph.x, edge_index=torch.cat([edges, edges.flip(0)], dim=1)))
        graph.in_degree, graph.out_degree = whole.in_degree, whole.out_degree
        hidden = graph.test_edge_label_index[:, graph.test_edge_label == 1][:, :2]
        graph.edge_index = torch.cat([graph.edge_index, hidden, hidden.flip(0)], dim=1)
        return graph

    def setup(self, stage: str | None = None) -> None:
        self.graph = self.read()


def test_planted_leaks_of_links_are_found_and_named():
    data = LeakingLinks()
    data.setup()
    task = Classification(nn.Identity(), Edges(), num_classes=2, level="edge")
    section = SECTIONS["leaks"](Run(task, data))
    assert section.metrics["test edges in edge_index"] == 2
    degree = torch.bincount(data.graph.edge_index[0], minlength=41)
    name = "nodes whose encoding degree is not that of edge_index"
    assert section.metrics[name] == int((degree != 2).sum()) > 0
    assert "Found: test edges in edge_index" in section.notes[0]
    assert name in section.notes[0]


class Points:
    """Graphs of one node with a number to predict."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: Tensor) -> Data:
        batch = Data(x=self.x[index], y=self.y[index])
        batch.lengths = (1,) * len(index)
        return batch


class Line(DataModule):
    """Targets are twice the feature and noise."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.splits = {}
        for split, count in (("train", 53), ("val", 101), ("test", 211)):
            x = torch.randn(count, 1, generator=generator)
            self.splits[split] = x, 2 * x[:, 0] + torch.randn(count, generator=generator)

    def batches(self, split: str) -> BatchLoader:
        rows = Points(*self.splits[split])
        return BatchLoader(rows, BatchSampler(len(rows), 29))


class Twice(nn.Module):
    def forward(self, batch, adjacency):
        return 2 * batch.x


def test_every_section_of_a_regression():
    run = Run(Regression(Twice(), SelfLoops()).eval(), Line())
    sections = {name: section(run) for name, section in SECTIONS.items()}
    errors = {k: (2 * x[:, 0] - y).abs().numpy() for k, (x, y) in run.data.splits.items()}
    half_width = np.sort(errors["val"])[int(np.ceil(102 * 0.9)) - 1]
    metrics = sections["calibration"].metrics
    assert metrics["half-width of conformal intervals"] == pytest.approx(half_width)
    assert metrics["conformal coverage"] == pytest.approx((errors["test"] <= half_width).mean())
    assert metrics["mean absolute error"] == pytest.approx(errors["test"].mean())
    members = np.repeat([1, 0], [53, 211])
    area = roc_auc_score(members, -np.concatenate([errors["train"], errors["test"]]))
    found = sections["privacy"].metrics["AUC of membership inference"]
    assert found == pytest.approx(area, abs=1e-6)
    assert {row[4] for row in sections["consistency"].tables[0].rows} == {"numbers"}
    for name in ("fairness", "robustness", "norms", "safety"):
        assert "Not applicable: this run is a Regression" in sections[name].notes[0]
