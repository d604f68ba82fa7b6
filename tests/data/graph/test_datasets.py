"""Data sets of many graphs: folds, features, labels and molecules."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from graphformer.data import (
    MoleculeNet,
    TUDataset,
    TUEdges,
)
from graphformer.data.graph.datasets import assign_folds, scale_columns


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TUDataset(fold=10), "fold: got 10, expected 0 to 9 for num_folds=10"),
        (lambda: TUDataset(fold=0, num_folds=2), "num_folds: got 2, expected 3 or more"),
        (lambda: MoleculeNet("ESOLL"), "'ESOLL'"),
    ],
)
def test_unknown_names_and_splits_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_folds_are_dealt_out_class_by_class() -> None:
    y = torch.tensor([0] * 20 + [1] * 50)
    folds = assign_folds(y, 10, seed=0)
    for label, share in ((0, 2), (1, 5)):
        assert folds[y == label].bincount().tolist() == [share] * 10
    assert not torch.equal(assign_folds(y, 10, seed=1), folds)
    regression = assign_folds(torch.rand(23), 5, seed=0)
    assert sorted(regression.bincount().tolist()) == [4, 4, 5, 5, 5]


def test_graphs_are_packed_and_folds_cover_everything(toy_tu: Path) -> None:
    tested: list[int] = []
    for fold in range(5):
        data = TUDataset("TOY", 7, fold=fold, num_folds=5, root=str(toy_tu))
        data.prepare_data()
        splits = {split: {id(g) for g in graphs.graphs} for split, graphs in data._splits.items()}
        assert sum(len(ids) for ids in splits.values()) == len(set().union(*splits.values())) == 41
        for batch in data.test_dataloader():
            sizes = batch.ptr.diff()
            tested += sizes.tolist()
            assert (batch.y + 2).tolist() == sizes.tolist()
            assert batch.x.shape == (batch.num_nodes, 1)
            assert batch.num_edges == 2 * int((sizes - 1).sum())
    assert (data.num_features, data.num_classes, data.num_edge_features) == (1, 3, 0)
    assert sorted(tested) == sorted(2 + graph % 3 for graph in range(41))


def test_without_validation_its_fold_is_for_training(toy_tu: Path) -> None:
    options = {"fold": 4, "num_folds": 5, "root": str(toy_tu)}
    data, whole = (TUDataset("TOY", validation=v, **options) for v in (False, True))
    for module in (data, whole):
        module.setup()
    count = {split: len(graphs) for split, graphs in whole._splits.items()}
    assert len(data._splits["train"]) == count["train"] + count["val"]
    assert len(data._splits["test"]) == count["test"]
    with pytest.raises(ValueError, match=r"validation: got False.*--trainer.limit_val_batches 0"):
        data.val_dataloader()


def test_graphs_without_edges_at_the_end_are_not_lost(toy_tu: Path) -> None:
    raw = toy_tu / "tu" / "TOY" / "raw"
    nodes = len((raw / "TOY_graph_indicator.txt").read_text().split("\n")) - 1
    for ending, lines in (("graph_indicator", "42\n43\n43\n"), ("graph_labels", "2\n3\n")):
        with (raw / f"TOY_{ending}.txt").open("a") as file:
            file.write(lines)
    (raw / "TOY_node_labels.txt").write_text("".join(f"{i % 5}\n" for i in range(nodes + 3)))
    data = TUDataset("TOY", num_folds=5, root=str(toy_tu))
    graphs = data.read()
    assert [graph.num_nodes for graph in graphs[-3:]] == [3, 1, 2]
    assert [graph.num_edges for graph in graphs[-3:]] == [4, 0, 0]
    assert graphs[-1].x.argmax(1).tolist() == [(nodes + 1) % 5, (nodes + 2) % 5]


def test_tu_sets_of_other_kinds(toy_tu: Path) -> None:
    raw = toy_tu / "tu" / "TOY" / "raw"
    edges = len((raw / "TOY_A.txt").read_text().split("\n")) - 1
    nodes = len((raw / "TOY_graph_indicator.txt").read_text().split("\n")) - 1
    options = {"num_folds": 5, "root": str(toy_tu)}
    (raw / "TOY_edge_attributes.txt").write_text("0.5\n" * edges)
    (raw / "TOY_node_attributes.txt").write_text("1.5, 2.5\n" * nodes)
    rich = TUDataset("TOY", **options)
    rich.setup()
    assert (rich.num_features, rich.num_edge_features) == (2, 1)
    bare = TUDataset("TOY", node_attributes=False, edge_attributes=False, **options)
    bare.setup()
    assert (bare.num_features, bare.num_edge_features) == (1, 0)
    (raw / "TOY_graph_labels.txt").unlink()
    with pytest.raises(ValueError, match="TOY: got neither labels nor attributes of graphs"):
        TUDataset("TOY", **options).setup()
    (raw / "TOY_graph_attributes.txt").write_text("".join(f"{i}.5, 0\n" for i in range(41)))
    regression = TUDataset("TOY", 7, **options)
    regression.setup()
    assert regression.num_classes == 2  # targets
    assert next(iter(regression.test_dataloader())).y.shape == (7, 2)
    with pytest.raises(ValueError, match="num_folds: got 43 for the 41 graphs of TUDataset"):
        TUDataset("TOY", num_folds=43, root=str(toy_tu)).setup()


def test_mutag_has_its_published_size(linked_data: Callable[..., Path]) -> None:
    data = TUDataset("MUTAG", root=str(linked_data("tu/MUTAG/raw")))
    data.setup()
    labels = np.concatenate([g.y for split in data._splits.values() for g in split.graphs])
    assert len(labels) == 188
    assert np.bincount(labels).tolist() == [63, 125]
    assert [len(data._splits[split]) for split in ("train", "val", "test")] == [150, 19, 19]


def test_esol_is_a_regression(linked_data: Callable[..., Path]) -> None:
    pytest.importorskip("rdkit", reason="needs rdkit, the extra 'chem'")
    data = MoleculeNet("ESOL", 13, root=str(linked_data("molecules/esol/raw")))
    data.setup()
    batch = next(iter(data.train_dataloader()))
    assert batch.y.shape == (13,)
    assert batch.y.is_floating_point()
    assert data.num_classes == 0
    assert torch.equal(batch.x.sum(1), torch.full((batch.num_nodes,), 9.0))
    assert batch.edge_attr.shape == (batch.num_edges, data.num_edge_features)


@pytest.mark.parametrize("scale", ["standard", "quantile"])
def test_attributes_are_scaled_by_the_training_part_alone(scale: str) -> None:
    generator = torch.Generator().manual_seed(0)
    sizes = [[7, 11, 0, 13], [5]]
    splits = [
        [Data(x=torch.rand(n, 3, generator=generator).exp() * 5, num_nodes=n) for n in split]
        for split in sizes
    ]
    splits[0][1].x[3, 0] = 798.0
    before = [[graph.x.clone() for graph in split] for split in splits]
    scale_columns(splits, 2, scale)
    trained = torch.cat([graph.x for graph in splits[0]])
    if scale == "standard":
        torch.testing.assert_close(trained[:, :2].mean(0), torch.zeros(2), atol=1e-5, rtol=0)
        torch.testing.assert_close(trained[:, :2].std(0, correction=0), torch.ones(2))
    else:
        assert trained[:, 0].median().abs() < 0.2, "the outlier moves nothing"
    torch.testing.assert_close(trained[:, 2], torch.cat([x[:, 2] for x in before[0]]))
    again = [before[0][1].clone(), before[1][0]]
    other = [[Data(x=x) for x in before[0]], [Data(x=again[1] * 100)]]
    scale_columns(other, 2, scale)
    assert torch.equal(other[0][1].x, splits[0][1].x), "the other split has no say"


def test_an_unknown_scale_is_refused() -> None:
    with pytest.raises(ValueError, match="scale: got 'log', expected None, standard or quantile"):
        TUDataset(scale="log")  # type: ignore[arg-type]


def test_molecules_in_two_classes(tmp_path: Path) -> None:
    pytest.importorskip("rdkit", reason="needs rdkit, the extra 'chem'")
    raw = tmp_path / "molecules" / "bbbp" / "raw"
    raw.mkdir(parents=True)
    rows = [
        f"{i},name,{i % 2},{smiles}" for i, smiles in enumerate(["CCO", "C", "C#N", "[Na]"] * 3)
    ]
    (raw / "BBBP.csv").write_text("\n".join(["num,name,p_np,smiles", *rows, ""]))
    data = MoleculeNet("bbbp", num_folds=3, root=str(tmp_path))
    data.setup()
    batch = next(iter(data.test_dataloader()))
    assert batch.y.dtype == torch.int64
    assert data.num_classes == 2


def test_edge_types_are_labels_and_no_features(toy_tu: Path) -> None:
    raw = toy_tu / "tu" / "TOY" / "raw"
    with pytest.raises(ValueError, match="TOY: got no edge labels"):
        TUEdges("TOY", num_folds=5, root=str(toy_tu)).setup()
    pairs = [line.split(", ") for line in (raw / "TOY_A.txt").read_text().split("\n")[:-1]]
    types = [(int(a) + int(b)) % 3 for a, b in pairs]
    (raw / "TOY_edge_labels.txt").write_text("".join(f"{each}\n" for each in types))
    (raw / "TOY_edge_attributes.txt").write_text("0.5\n" * len(pairs))
    data = TUEdges("TOY", 9, num_folds=5, root=str(toy_tu))
    data.setup()
    assert (data.num_classes, data.num_edge_features) == (3, 0)
    seen = 0
    for batch in (*data.train_dataloader(), *data.val_dataloader(), *data.test_dataloader()):
        assert torch.equal(batch.edge_label_index, batch.edge_index)
        assert batch.edge_label.shape == (batch.num_edges,)
        assert batch.edge_attr is None
        seen += batch.edge_label.bincount(minlength=3)
    assert seen.tolist() == np.bincount(types).tolist()


def test_labels_of_graphs_are_checked(toy_tu: Path) -> None:
    raw = toy_tu / "tu" / "TOY" / "raw"
    (raw / "TOY_graph_labels.txt").write_text("3\n" * 41)
    with pytest.raises(ValueError, match="TUDataset: got 1 class in 41 labels, expected 2 or more"):
        TUDataset("TOY", root=str(toy_tu)).setup()
