"""`StoredNodes`: batches, and training, testing and predicting by command."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from helpers.stored_graphs import arrays, store

from graphformer.cli import main
from graphformer.data import MissingDataError, StoredNodes


def test_batches_are_sampled_from_the_folder(tmp_path: Path) -> None:
    given = arrays()
    graph = store(tmp_path / "graph", given)
    data = StoredNodes("graph", [3, 2], 17, root=str(tmp_path))
    data.prepare_data()
    data.setup()
    assert (data.num_features, data.num_classes) == (5, 3)
    for split in ("train", "val", "test"):
        batches = list(data.batches(split))
        seeds = torch.cat([batch.n_id[: batch.batch_size] for batch in batches])
        assert torch.equal(seeds.sort().values, graph.split_nodes(split))
        for batch in batches:
            assert torch.equal(batch.x, given["x"][batch.n_id])
            assert int(batch[f"{split}_mask"].sum()) == batch.batch_size


def test_workers_yield_the_same_batches(tmp_path: Path) -> None:
    store(tmp_path / "graph", arrays())
    found = []
    for workers in (0, 2):
        data = StoredNodes(str(tmp_path / "graph"), [3], 31, num_workers=workers)
        data.setup()
        found.append([batch.x for batch in data.batches("train")])
    assert len(found[0]) > 1
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_a_worker_that_is_not_forked_maps_the_edges_itself(tmp_path: Path) -> None:
    store(tmp_path / "graph", arrays(211, 20_011))
    data = StoredNodes(str(tmp_path / "graph"), [3], 31)
    data.setup()
    dataset, index = data.batches("val").dataset, torch.arange(7)
    content = pickle.dumps(dataset)
    assert len(content) < 20_011, "no edges"
    copy = pickle.loads(content)
    assert torch.equal(copy[index].edge_index, dataset[index].edge_index)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    data = StoredNodes("nowhere", [3], root=str(tmp_path))
    with pytest.raises(MissingDataError, match=r"neither a folder .*nowhere nor .*; write a graph"):
        data.prepare_data()


def test_fit_test_and_predict_by_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    graph = store(tmp_path / "graph", arrays())
    network = ["--model.network=graphformer.models.gat", "--model.network.dim=3"]
    model = ["--model=Classification", *network, "--model.adjacency=Edges", "--model.level=node"]
    data = ["--data=StoredNodes", "--data.path=graph", "--data.fanouts=[3,3]"]
    trainer = ["--trainer.max_epochs=2", "--trainer.accelerator=cpu", "--seed_everything=1"]
    assert main(["fit", *model, *data, "--data.batch_size=50", *trainer]) == 0
    (run,) = (tmp_path / "runs").glob("*/*")
    capsys.readouterr()
    assert main(["test", "--ckpt", str(run)]) == 0
    assert "test/accuracy" in capsys.readouterr().out
    assert main(["predict", "--ckpt", str(run), "--output", "nodes.csv"]) == 0
    lines = Path("nodes.csv").read_text().splitlines()
    assert lines[0].split(",")[:3] == ["node", "class", "probability_0"]
    nodes = [int(line.split(",")[0]) for line in lines[1:]]
    assert nodes == graph.split_nodes("test").tolist()
