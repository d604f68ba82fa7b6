"""PyG's data sets with raw files elsewhere: cache folder, downloads, missing and damaged files."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphformer.data import HeterophilousGraph, MissingDataError, Planetoid, TUDataset
from graphformer.data.graph import pyg_cache


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


def test_processed_files_go_to_the_cache_and_follow_the_raw_files(
    toy_tu: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache" / "graphformer" / "pyg"
    TUDataset("TOY", root=str(toy_tu)).setup()
    assert [path.name for path in (toy_tu / "tu" / "TOY").iterdir()] == ["raw"]
    made = list(cache.iterdir())
    assert len(made) == 1
    with monkeypatch.context() as patch:
        patch.setattr(pyg_cache, "_build", lambda *args: pytest.fail("built again"))
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


@pytest.mark.usefixtures("offline")
def test_files_that_pyg_cannot_read_are_named(tmp_path: Path) -> None:
    raw = tmp_path / "heterophilous" / "tolokers" / "raw"
    raw.mkdir(parents=True)
    (raw / "tolokers.npz").write_text("no archive")
    with pytest.raises(ValueError, match="HeterophilousGraphDataset cannot read") as caught:
        HeterophilousGraph(root=str(tmp_path)).setup()
    assert str(raw) in str(caught.value)
    assert not list((tmp_path / "cache" / "graphformer" / "pyg").iterdir())
