"""Data sets of PyG by name: folds, splits of their own, labels of nodes, errors."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch_geometric.datasets
from torch_geometric.data import Data, InMemoryDataset

from graphformer.cli.config.imports import check_imports, trusted
from graphformer.cli.errors import UsageError
from graphformer.data import MissingDataError, PyGGraphs, PyGNodes
from graphformer.data.graph.own import pyg_sets


class Toy(list):
    """Graphs with splits of their own, as ZINC and PPI have them."""

    def __init__(self, root: str, split: str = "train", level: str = "graph") -> None:
        assert Path(root).parts[-2:] == ("pyg", "Toy")
        first = {"train": 0, "val": 100, "test": 200}[split]
        for i in range({"train": 7, "val": 3, "test": 5}[split]):
            y = torch.tensor([float(first + i), 0.5]) if level == "graph" else torch.arange(4) % 2
            self.append(
                Data(
                    x=torch.tensor([[0], [2], [1], [2]]),
                    edge_index=torch.tensor([[0, 1, 2], [1, 2, 3]]),
                    edge_attr=torch.tensor([1, 0, 1]),
                    y=y,
                )
            )


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_geometric.datasets, "Toy", Toy, raising=False)


def test_own_splits_targets_and_categories() -> None:
    data = PyGGraphs("torch_geometric.datasets.Toy", target=0, one_hot=3, edge_one_hot=2)
    data.setup()
    assert (data.num_features, data.num_edge_features, data.num_classes) == (3, 2, 0)
    values = {
        split: sorted(torch.cat([batch.y for batch in data.batches(split)]).tolist())
        for split in ("train", "val", "test")
    }
    assert values == {
        "train": list(range(7)),
        "val": [100, 101, 102],
        "test": [200, 201, 202, 203, 204],
    }
    batch = next(iter(data.batches("val")))
    assert batch.x[:4].argmax(1).tolist() == [0, 2, 1, 2]
    assert batch.edge_attr[:3].tolist() == [[0, 1], [1, 0], [0, 1]]
    several = PyGGraphs("Toy")
    several.setup()
    assert several.num_classes == 2
    assert next(iter(several.batches("test"))).y.shape == (5, 2)


def test_labels_of_nodes() -> None:
    data = PyGGraphs("Toy", level="node", options={"level": "node"})
    data.setup()
    assert data.num_classes == 2
    assert next(iter(data.batches("val"))).y.tolist() == [0, 1, 0, 1] * 3
    by_folds = PyGGraphs("Toy", level="node", options={"level": "node", "split": "train"})
    by_folds.num_folds = 3
    by_folds.setup()
    sizes = [sum(len(b.ptr) - 1 for b in by_folds.batches(s)) for s in ("train", "val", "test")]
    assert sum(sizes) == 7
    assert min(sizes) >= 2


def test_a_generated_data_set_by_folds() -> None:
    options = {"num_graphs": 13, "avg_num_nodes": 7, "num_classes": 3}
    data = PyGGraphs("FakeDataset", options=options, num_folds=3)
    data.setup()
    assert data.num_classes == 3
    assert sum(len(b.y) for s in ("train", "val", "test") for b in data.batches(s)) == 13


def test_a_data_set_of_another_module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Own(InMemoryDataset):
        def __init__(self, root: str, size: int) -> None:
            super().__init__(root)
            self.data, self.slices = self.collate(list(Toy("pyg/Toy"))[:size])

    module = SimpleNamespace(Own=Own, Other=dict)
    monkeypatch.setitem(sys.modules, "own_module", module)  # type: ignore[arg-type]
    settings = {"options": {"size": 5}, "num_folds": 3, "root": str(tmp_path)}
    data = PyGGraphs("own_module.Own", target=0, **settings)
    data.setup()
    assert sum(len(b.y) for s in ("train", "val", "test") for b in data.batches(s)) == 5
    for path in ("own_module.Other", "own_module.Missing", "no_module_of_this_name.Own"):
        with pytest.raises(ValueError, match=f"dataset: got '{path}', expected a class of"):
            PyGGraphs(path, **settings).setup()


def test_a_checkpoint_names_no_other_module(tmp_path: Path) -> None:
    settings = {"data": {"init_args": {"dataset": "torch_geometric.datasets.ZINC"}}}
    check_imports(settings, tmp_path)
    settings["data"]["init_args"]["dataset"] = "own_module.Own"
    with pytest.raises(UsageError, match="settings that import own_module.Own, .* --trust own_"):
        check_imports(settings, tmp_path)
    with trusted(["own_module"]):
        check_imports(settings, tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"options": {"colour": 1}}, "options: got 'colour' for Toy, expected some of root"),
        ({"target": 2}, "target: got 2, expected 0 to 1, a column of the labels of Toy"),
        ({"one_hot": 2}, "one_hot: got 2 for values of x from 0 to 2"),
        ({"fold": 3}, "fold: got 3 for Toy, which has splits; leave it out"),
        ({"level": "node"}, r"Toy: got y of shape \(2,\) for 4 nodes, expected a row a node"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PyGGraphs("Toy", **settings).setup()


def test_missing_files_are_one_sentence(tmp_path: Path) -> None:
    def fails(root: str) -> None:
        raise OSError("no network")

    with pytest.raises(MissingDataError, match=r"can neither read nor download .*no network"):
        pyg_sets.read_pyg(fails, str(tmp_path), {})
    with pytest.raises(ValueError, match="got no train_mask, expected masks of the splits"):
        PyGNodes("FakeDataset", options={"num_graphs": 1, "task": "graph"}).setup()
