"""Consistency under changes that keep the meaning: models that do and do not see them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch_geometric.data import Data

from graphformer import models
from graphformer.data import LabelledText
from graphformer.data.graph.node_datasets import FullGraph
from graphformer.data.vision.base import PatchImages
from graphformer.patterns import Edges, SelfLoops
from graphformer.tasks import Classification
from graphformer.trust import Run, Section
from graphformer.trust.sections.invariance import add_invariance


class HasCapital(nn.Module):
    """Class 1 for a text of bytes with a capital letter."""

    def forward(self, batch, adjacency):
        parts = batch.x.split(list(batch.lengths))
        found = [bool(((65 <= part) & (part <= 90)).any()) for part in parts]
        return torch.eye(2)[torch.tensor(found).long()]


class Brightest(nn.Module):
    """The class of an image is the column of its brightest pixel, of four."""

    def forward(self, batch, adjacency):
        return batch.x.view(len(batch.lengths), -1, 4).amax(1)


def section_of(run: Run) -> Section:
    section = Section("consistency", "")
    add_invariance(section, run)
    return section


def test_a_model_of_texts_that_reads_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GRAPHFORMER_DATA", str(tmp_path))  # without WordNet
    path = tmp_path / "texts.tsv"
    rows = [f"{'A' if i % 2 else 'a'} text{i} isn't\t{i % 2}\n" for i in range(23)]
    path.write_text("text\tlabel\n" + "".join(rows))
    data = LabelledText(str(path), vocabulary="bytes", test_fraction=0.4)
    data.setup()
    capitals = sum(text != text.lower() for text, _ in data.splits["test"])
    task = Classification(HasCapital(), SelfLoops(), num_classes=2).eval()
    paraphrases = [("One text", "A text"), ("One text", "text"), ("one", "two")]
    section = section_of(Run(task, data, paraphrases=paraphrases))
    assert "Synonyms of WordNet were left out" in section.notes[0]
    found = {row[0]: row[1:3] for row in section.tables[0].rows}
    assert found["lower case"] == [capitals, 0.0]  # of the texts that it alters
    assert found["contractions written out"] == [len(data.splits["test"]), 1.0]
    assert found["paraphrases of the file"] == [3, pytest.approx(2 / 3)]
    assert section.metrics["same answers, lower case"] == 0


class Columns(PatchImages):
    """Images of 4 x 4 pixels with one bright pixel in the given column."""

    max_value = 1.0

    def __init__(self, columns: list[int], augment: list[str]) -> None:
        super().__init__(patch_size=4, batch_size=7, augment=augment, val_size=1, seed=0)
        images = torch.zeros(len(columns), 1, 4, 4)
        images[torch.arange(len(columns)), 0, 1, torch.tensor(columns)] = 1.0
        self.splits = {"test": (images, torch.tensor(columns))}
        self.mean, self.std = torch.zeros(1), torch.ones(1)

    def read(self):
        raise NotImplementedError


def test_a_model_of_images_that_reads_places():
    task = Classification(Brightest(), SelfLoops(), num_classes=4).eval()
    section = section_of(Run(task, Columns([0, 1, 2, 3], [])))
    found = {row[0]: row[2] for row in section.tables[0].rows}
    assert found == {
        "one pixel down": 1.0,
        "one pixel right": 0.25,  # a pixel of the last column leaves the image: all are equal
        "turned by 5 degrees": 1.0,
        "brighter by 5 %": 1.0,
    }
    mirrored = section_of(Run(task, Columns([0, 1, 2, 3], ["flip"])))
    assert mirrored.metrics["same answers, mirrored"] == 0


class Numbered(nn.Module):
    """Reads the number of a node, which has no meaning."""

    def forward(self, batch, adjacency):
        return torch.eye(2)[torch.arange(len(batch.x)) % 2]


class SmallGraph(FullGraph):
    def read(self) -> Data:
        masks = torch.eye(3).bool()[torch.arange(13) % 3]
        edges = torch.randint(13, (2, 31), generator=torch.Generator().manual_seed(0))
        names = ("train_mask", "val_mask", "test_mask")
        parts = {name: mask.contiguous() for name, mask in zip(names, masks.T, strict=True)}
        return Data(x=torch.randn(13, 5), y=torch.arange(13) % 2, edge_index=edges, **parts)


@pytest.mark.parametrize("reads_numbers", [False, True])
def test_a_model_of_graphs(reads_numbers: bool):
    data = SmallGraph()
    data.setup()
    network = Numbered() if reads_numbers else models.gat(5, 2, dim=3, num_heads=2, depth=1)
    task = Classification(network, Edges(self_loops=True), num_classes=2, level="node").eval()
    (row,) = section_of(Run(task, data)).tables[0].rows
    assert row[:2] == ["nodes in another order", 13]
    assert (row[2] < 1) == reads_numbers
