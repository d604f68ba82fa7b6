from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from graphformer.data import (
    DigitsGraph,
    HeterophilousGraph,
    MissingDataError,
    MoleculeNet,
    Planetoid,
    TUDataset,
    TUEdges,
)
from graphformer.data.graph import pyg_cache as pyg_files
from graphformer.data.graph.datasets import assign_folds, scale_columns
from graphformer.data.graph.node_datasets import nearest_neighbors


@pytest.fixture
def toy_tu(tmp_path: Path) -> Path:
    """A data root with the TU set TOY: 41 paths of 2 to 4 nodes, labelled by their length."""
    raw = tmp_path / "root" / "tu" / "TOY" / "raw"
    raw.mkdir(parents=True)
    edges, indicator, labels, offset = [], [], [], 1
    for graph in range(41):
        size = 2 + graph % 3
        for node in range(offset, offset + size - 1):
            edges += [f"{node}, {node + 1}", f"{node + 1}, {node}"]
        indicator += [str(graph + 1)] * size
        labels.append(str(size))
        offset += size
    (raw / "TOY_A.txt").write_text("\n".join([*edges, ""]))
    (raw / "TOY_graph_indicator.txt").write_text("\n".join([*indicator, ""]))
    (raw / "TOY_graph_labels.txt").write_text("\n".join([*labels, ""]))
    return tmp_path / "root"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise OSError("no network")

    for module in ("planetoid", "tu_dataset"):
        monkeypatch.setattr(f"torch_geometric.datasets.{module}.fs.cp", fail)
    for module in ("heterophilous_graph_dataset", "molecule_net"):
        monkeypatch.setattr(f"torch_geometric.datasets.{module}.download_url", fail)


def check_masks(graph: Data) -> list[int]:
    masks = torch.stack([graph.train_mask, graph.val_mask, graph.test_mask])
    assert masks.shape == (3, graph.num_nodes)
    assert int(masks.sum(0).max()) == 1
    return masks.sum(1).tolist()


def test_nearest_neighbors_equal_brute_force() -> None:
    x = torch.rand(29, 3)
    source, target = nearest_neighbors(x, 5)
    distance = torch.cdist(x, x).fill_diagonal_(torch.inf)
    expected = distance.topk(5, largest=False).indices.sort(1).values
    assert torch.equal(target, torch.arange(29).repeat_interleave(5))
    assert torch.equal(source.view(29, 5).sort(1).values, expected)
    with pytest.raises(ValueError, match="neighbors is 29: expected 1 to 28"):
        nearest_neighbors(x, 29)


def test_digits_graph_has_labels_a_class_and_no_leak() -> None:
    data = DigitsGraph(neighbors=5, labels_per_class=7, val_size=101, undirected=False)
    data.setup()
    graph = data.graph
    assert graph is not None
    assert check_masks(graph) == [70, 101, 1626]
    assert graph.y[graph.train_mask].bincount().tolist() == [7] * 10
    assert (data.num_features, data.num_classes) == (64, 10)
    assert graph.edge_index[1].bincount().tolist() == [5] * 1797
    assert not (graph.edge_index[0] == graph.edge_index[1]).any()


def test_digits_graph_noise_leaves_edges_and_masks_as_they_are() -> None:
    clean, noisy, other = DigitsGraph(), DigitsGraph(noise=0.5), DigitsGraph(seed=1)
    for data in (clean, noisy, other):
        data.setup()
    assert torch.equal(clean.graph.edge_index, noisy.graph.edge_index)
    assert torch.equal(clean.graph.train_mask, noisy.graph.train_mask)
    assert not torch.equal(clean.graph.train_mask, other.graph.train_mask)
    assert abs((noisy.graph.x - clean.graph.x).std().item() - 0.5) < 0.01
    assert clean.graph.is_undirected()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels_per_class": 0}, "labels_per_class is 0"),
        ({"labels_per_class": 174}, "expected 1 to 173"),
        ({"val_size": 1597}, "val_size is 1597"),
        ({"noise": -1.0}, "noise is -1.0"),
    ],
)
def test_senseless_digits_graphs_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DigitsGraph(**options).setup()


def test_the_graph_is_one_object_that_moves_in_place() -> None:
    data = DigitsGraph()
    with pytest.raises(RuntimeError, match="setup"):
        data.train_dataloader()
    data.setup()
    (graph,) = data.train_dataloader()
    (again,) = data.val_dataloader()
    assert again is graph
    edge_index = graph.edge_index
    moved = data.transfer_batch_to_device(graph, torch.device("cpu"), 0)
    assert moved is graph
    assert moved.edge_index is edge_index


@pytest.mark.parametrize(
    "data",
    [
        Planetoid("CiteSeer"),
        HeterophilousGraph("Amazon-ratings"),
        TUDataset("NCI1"),
    ],
)
@pytest.mark.usefixtures("offline")
def test_missing_raw_files_are_named(
    data: Planetoid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAPHFORMER_DATA", str(tmp_path / "root"))
    with pytest.raises(MissingDataError, match="no network.*put the raw files") as caught:
        data.prepare_data()
    assert str(tmp_path / "root") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__suppress_context__
    assert not (tmp_path / "root").exists()
    assert not list((tmp_path / "cache" / "graphformer" / "pyg").iterdir())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Planetoid("Corra"), "'Corra': expected one of Cora"),
        (lambda: Planetoid(split="random"), "'random'"),
        (lambda: HeterophilousGraph(split=10), "split is 10"),
        (lambda: TUDataset(fold=10), "fold is 10 of num_folds 10"),
        (lambda: TUDataset(fold=0, num_folds=2), "3 folds or more"),
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
    with pytest.raises(ValueError, match=r"validation is False.*--trainer.limit_val_batches 0"):
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
    with pytest.raises(ValueError, match="TOY has neither labels nor attributes of graphs"):
        TUDataset("TOY", **options).setup()
    (raw / "TOY_graph_attributes.txt").write_text("".join(f"{i}.5, 0\n" for i in range(41)))
    regression = TUDataset("TOY", 7, **options)
    regression.setup()
    assert regression.num_classes == 0
    assert next(iter(regression.test_dataloader())).y.shape == (7, 2)
    with pytest.raises(ValueError, match="num_folds is 43, but TUDataset has 41 graphs"):
        TUDataset("TOY", num_folds=43, root=str(toy_tu)).setup()


def test_processed_files_go_to_the_cache_and_follow_the_raw_files(
    toy_tu: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache" / "graphformer" / "pyg"
    TUDataset("TOY", root=str(toy_tu)).setup()
    assert [path.name for path in (toy_tu / "tu" / "TOY").iterdir()] == ["raw"]
    made = list(cache.iterdir())
    assert len(made) == 1
    with monkeypatch.context() as patch:
        patch.setattr(pyg_files, "_build", lambda *args: pytest.fail("built again"))
        TUDataset("TOY", root=str(toy_tu / "tu")).setup()
    labels = toy_tu / "tu" / "TOY" / "raw" / "TOY_graph_labels.txt"
    labels.write_text("\n".join(str(i % 5) for i in range(41)) + "\n")
    changed = TUDataset("TOY", root=str(toy_tu))
    changed.setup()
    assert changed.num_classes == 5
    assert len(list(cache.iterdir())) == 2


def test_downloads_land_in_the_data_root(
    toy_tu: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = toy_tu / "tu" / "TOY" / "raw"

    def fake_download(dataset: object) -> None:
        for file in source.iterdir():
            (Path(dataset.raw_dir) / file.name).write_bytes(file.read_bytes())

    monkeypatch.setattr("torch_geometric.datasets.TUDataset.download", fake_download)
    data = TUDataset("TOY", root=str(tmp_path / "new"))
    data.prepare_data()
    assert data.num_classes == 3
    assert len(list((tmp_path / "new" / "tu" / "TOY" / "raw").iterdir())) == 3
    assert [path.name for path in (tmp_path / "new" / "tu" / "TOY").iterdir()] == ["raw"]


def test_cora_is_the_public_split(linked_data: Callable[..., Path]) -> None:
    data = Planetoid("cora", root=str(linked_data("planetoid/Cora/raw")))
    data.prepare_data()
    data.setup()
    assert data.graph is not None
    assert check_masks(data.graph) == [140, 500, 1000]
    assert (data.num_features, data.num_classes) == (1433, 7)
    sums = data.graph.x.sum(1)
    torch.testing.assert_close(sums, torch.ones(2708))


def test_tolokers_split_is_chosen(linked_data: Callable[..., Path]) -> None:
    root = str(linked_data("heterophilous/tolokers/raw"))
    first, second = (HeterophilousGraph("tolokers", split=split, root=root) for split in (0, 7))
    first.setup()
    second.setup()
    assert first.graph is not None
    assert second.graph is not None
    assert check_masks(first.graph) == check_masks(second.graph) == [5879, 2939, 2940]
    assert not torch.equal(first.graph.train_mask, second.graph.train_mask)
    assert first.num_classes == 2


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
    with pytest.raises(ValueError, match="scale is 'log': expected None, standard or quantile"):
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


def test_kinds_of_edges_are_labels_and_no_features(toy_tu: Path) -> None:
    raw = toy_tu / "tu" / "TOY" / "raw"
    with pytest.raises(ValueError, match="TOY has no kinds of edges to tell"):
        TUEdges("TOY", num_folds=5, root=str(toy_tu)).setup()
    pairs = [line.split(", ") for line in (raw / "TOY_A.txt").read_text().split("\n")[:-1]]
    kinds = [(int(a) + int(b)) % 3 for a, b in pairs]
    (raw / "TOY_edge_labels.txt").write_text("".join(f"{kind}\n" for kind in kinds))
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
    assert seen.tolist() == np.bincount(kinds).tolist()
