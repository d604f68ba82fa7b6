"""Data sets of the Hub by name, read by the library `datasets` from folders: nothing is fetched."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from graphformer.data import ImageTable, LabelledText, MissingDataError, TextPairs, TextRecords
from graphformer.data.io import hub_datasets
from graphformer.data.io.hub_datasets import HubName, parse_hub_name
from graphformer.data.io.tabular import find_records, read_records

ROWS = [{"text": f"text {i}", "label": "ab"[i % 2], "other": f"texts {i}"} for i in range(23)]


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    datasets = pytest.importorskip("datasets", reason="the library datasets is not installed")
    if not hasattr(datasets, "load_dataset"):
        pytest.skip("the library datasets is not installed")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    return datasets


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    for split, rows in (("train", ROWS), ("test", ROWS[:5])):
        text = "\n".join(json.dumps(row) for row in rows)
        (folder / f"{split}.jsonl").write_text(text)
    return folder


def test_names_have_options() -> None:
    assert parse_hub_name("hf:a/b") == HubName("a/b")
    assert parse_hub_name("hf:a/b?config=c&split=train[:3]+test&revision=v1&streaming=true") == (
        HubName("a/b", config="c", split="train[:3]+test", revision="v1", streaming=True)
    )
    assert parse_hub_name(Path("hf:/x/y?take=7")) == HubName("/x/y", take=7)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hf:a/b?colour=1", "path: got 'colour=1' in hf:a/b.colour=1, expected options such as"),
        ("hf:a/b?streaming=yes", "got streaming=yes in .* expected true or false"),
        ("hf:a/b?take=few", "got take=few in .* expected a number"),
        ("hf:?split=x", "expected a name behind hf:"),
    ],
)
def test_malformed_names_are_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_records(name, None)


@pytest.mark.parametrize("options", ["", "&streaming=true"])
def test_texts_and_pairs_of_a_folder(library: Any, folder: Path, options: str) -> None:
    name = f"hf:{folder}?split=train{options}"
    assert list(read_records(find_records(name, None))) == list(enumerate(ROWS, 1))
    assert len(list(read_records(Path(f"{name}&take=7")))) == 7
    test = f"hf:{folder}?split=test{options}"
    texts = LabelledText(name, test_path=test, vocabulary="bytes")
    texts.setup()
    assert texts.labels == ["a", "b"]
    assert len(texts.splits["test"]) == 5
    pairs = TextPairs(name, source="text", target="other", vocabulary="bytes")
    pairs.setup()
    assert sum(map(len, pairs.splits.values())) == 23


@pytest.mark.parametrize("options", ["", "&streaming=true"])
def test_blocks_of_records_are_cached_unless_they_are_streamed(
    library: Any, folder: Path, options: str
) -> None:
    data = TextRecords(f"hf:{folder}?split=train{options}", block_size=5)
    data.prepare_data()
    data.setup()
    assert (data.cache_key("train") is None) == bool(options)
    assert sum(len(data.stream(split).tokens) for split in ("train", "val")) == sum(
        len(row["text"]) + 1 for row in ROWS
    )
    if not options:
        first = data.cache_key("train")
        (folder / "train.jsonl").write_text(json.dumps(ROWS[0]) + "\n" + json.dumps(ROWS[1]))
        assert data.cache_key("train") != first


def test_classes_have_names_and_images_are_decoded_later(library: Any, tmp_path: Path) -> None:
    image_module = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 256, (13, 8, 12, 3), np.uint8)
    contents = []
    for each in pixels:
        buffer = io.BytesIO()
        image_module.fromarray(each).save(buffer, "PNG")
        contents.append({"bytes": buffer.getvalue(), "path": None})
    features = library.Features(
        image=library.Image(), label=library.ClassLabel(names=["cat", "dog", "owl"])
    )
    rows = {"image": contents, "label": [i % 3 for i in range(13)]}
    stored = library.Dataset.from_dict(rows, features=features)
    stored.save_to_disk(str(tmp_path / "images"))
    stored.to_parquet(str(tmp_path / "images.parquet"))
    by_name = ImageTable(f"hf:{tmp_path / 'images'}", patch_size=4)
    by_name.setup()
    assert by_name.classes == ["cat", "dog", "owl"]
    in_parquet = ImageTable(str(tmp_path / "images.parquet"), patch_size=4)
    in_parquet.setup()
    assert in_parquet.classes == ["0", "1", "2"]
    found = {}
    for data in (by_name, in_parquet):
        for split in ("train", "val", "test"):
            images, labels = data.splits[split]
            for name, image, label in zip(
                data.sample_names(split), images, labels.tolist(), strict=True
            ):
                number = int(name.removeprefix("row ")) - 1
                assert label == number % 3
                assert (image.numpy() == pixels[number].transpose(2, 0, 1)).all()
                found[number] = found.get(number, 0) + 1
    assert found == dict.fromkeys(range(13), 2)


def test_what_cannot_be_read_is_one_sentence(library: Any, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"texts: .*valid"):
        list(read_records(Path(f"hf:{folder}?split=valid")))
    with pytest.raises(MissingDataError, match="nowhere: the library datasets can neither find"):
        list(read_records(Path(f"hf:{tmp_path}/nowhere")))


def test_arguments_of_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    class Rows(list):
        features = None

    def load(*names: object, **options: object) -> Any:
        calls.append((names, options))
        return Rows([{"text": "one"}, {"text": "two"}, {"text": "three"}])

    stub = SimpleNamespace(load_dataset=load, load_from_disk=None)
    monkeypatch.setitem(sys.modules, "datasets", stub)  # type: ignore[arg-type]
    path = Path("hf:nyu-mll/glue?config=sst2&split=validation&revision=abc&streaming=true&take=2")
    assert [row["text"] for _, row in read_records(path)] == ["one", "two"]
    assert calls == [
        (
            ("nyu-mll/glue", "sst2"),
            {"split": "validation", "revision": "abc", "streaming": True},
        )
    ]
    assert hub_datasets.hub_fingerprint(path) is not None  # a commit does not change


@pytest.mark.parametrize("found", [None, SimpleNamespace()])
def test_a_missing_library_is_one_sentence(found: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # A folder `datasets` on the path is imported as an empty package.
    monkeypatch.setitem(sys.modules, "datasets", found)
    with pytest.raises(ModuleNotFoundError, match=r"need the library datasets; pip install "):
        list(read_records(Path("hf:a/b")))
