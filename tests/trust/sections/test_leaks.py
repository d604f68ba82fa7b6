"""The section on leaks: planted duplicates of samples and nodes."""

from __future__ import annotations

import torch
from helpers.trust import given_run, random_split
from torch_geometric.data import Data

from graphformer.data.graph.node_datasets import FullGraph
from graphformer.patterns import Edges
from graphformer.tasks import Classification
from graphformer.trust import Run
from graphformer.trust.sections import leaks_section


def test_planted_duplicates_are_named():
    splits = {name: random_split(11, 3, i) for i, name in enumerate(("train", "val", "test"))}
    splits["test"][0][5] = splits["train"][0][2]
    section = leaks_section(given_run(splits))
    assert section.metrics["samples of test that train contains"] == 1
    assert section.metrics["samples of val that train contains"] == 0
    assert section.tables[1].rows == [["train", 2, "test", 5]]
    assert section.tables[2].rows[0][:2] == [5, 2]  # the most similar pair


class SmallGraph(FullGraph):
    def read(self) -> Data:
        masks = torch.eye(3).bool().repeat_interleave(torch.tensor([3, 2, 2]), dim=0)
        x = torch.arange(7.0)[:, None]
        x[6] = x[0]
        graph = Data(x=x, y=torch.arange(7) % 2, edge_index=torch.tensor([[0, 1], [1, 0]]))
        for name, mask in zip(("train", "val", "test"), masks.T, strict=True):
            graph[f"{name}_mask"] = mask.contiguous()
        graph.val_mask[6] = True
        return graph


def test_nodes_of_one_graph():
    data = SmallGraph()
    data.setup()
    task = Classification(torch.nn.Identity(), Edges(), num_classes=2, level="node")
    metrics = leaks_section(Run(task, data)).metrics
    assert metrics["test nodes with the features of a training node"] == 1
    assert metrics["nodes of val and test"] == 1
    assert metrics["nodes of train and test"] == 0


def test_splits_of_the_same_samples_are_named():
    train, other = random_split(7, 3, 0), random_split(5, 3, 1)
    notes = leaks_section(given_run({"train": train, "val": other, "test": other})).notes
    assert notes[0].startswith("The splits val and test have the same samples")
    assert not any(note.startswith("The splits train") for note in notes)
