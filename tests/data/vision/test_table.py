"""Images of a table: classes, label sets, splits, checkpoints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from graphformer.data import ImageTable, MissingDataError


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "files").mkdir()
    for i in range(23):
        Image.fromarray(np.full((4, 4, 3), i, np.uint8)).save(tmp_path / f"files/{i}.png")
    rows = "".join(f"files/{i}.png,{'cat' if i % 3 else 'dog'}\n" for i in range(23))
    (tmp_path / "a.csv").write_text("image,label\n" + rows)
    return tmp_path


def table(path: str = "a.csv", **options: object) -> ImageTable:
    data = ImageTable(path, patch_size=2, size=(4, 4), batch_size=7, **options)
    data.setup()
    return data


def test_classes_and_splits(pictures: Path) -> None:
    data = table(test_fraction=0.2)
    assert (data.classes, data.num_classes, data.shape) == (["cat", "dog"], 2, (2, 2))
    names = {split: data.sample_names(split) for split in ("train", "val", "test")}
    assert sorted(name for of in names.values() for name in of) == sorted(
        f"files/{i}.png" for i in range(23)
    )
    for split, of_split in names.items():
        numbers = [int(name[6:-4]) for name in of_split]
        assert data.splits[split][1].tolist() == [int(i % 3 == 0) for i in numbers]
        assert data.splits[split][0][0][0, 0, 0] == numbers[0]
    assert data.splits["test"][1].sum() >= 1  # of each class


def test_balanced_training_images(pictures: Path) -> None:
    data = table(balanced=True)
    y = torch.cat([batch.y for batch in data.train_dataloader()])
    assert len(set(torch.bincount(y).tolist())) == 1
    assert len(y) > len(data.train_labels())
    y = torch.cat([batch.y for batch in data.val_dataloader()])
    assert len(y) == len(data.splits["val"][1])


def test_label_sets_and_a_split_column(pictures: Path) -> None:
    splits = ["train", "val", "test"]
    rows = [f"files/{i}.png,{'a;b' if i % 2 else ''},{splits[i % 3]}" for i in range(23)]
    (pictures / "sets.csv").write_text("\n".join(["image,label,split", *rows]))
    data = table("sets.csv", label_separator=";", split="split")
    assert (data.classes, data.num_classes) == (["a", "b"], 2)
    assert data.sample_names("val") == [f"files/{i}.png" for i in range(1, 23, 3)]
    batch = next(iter(data.val_dataloader()))
    assert batch.y.tolist() == [[i % 2] * 2 for i in range(1, 20, 3)]


def test_a_checkpoint_keeps_the_numbers_of_its_classes(pictures: Path) -> None:
    state = table().state_dict()
    rows = "".join(f"files/{i}.png,dog\n" for i in range(11))
    (pictures / "b.csv").write_text("image,label\n" + rows)
    data = table("b.csv")
    assert data.num_classes == 1
    data.load_state_dict(state)
    assert (data.num_classes, set(data.splits["test"][1].tolist())) == (2, {1})
    (pictures / "c.csv").write_text("image,label\nfiles/0.png,eel\n" * 1 + rows)
    data = table("c.csv")
    with pytest.raises(ValueError, match=r"got the labels \['eel'\], expected those of the run"):
        data.load_state_dict(state)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("image,label\nx.png,a\n", MissingDataError, "line 2: there is no image"),
        ("image,label\nfiles/1.png,\n", ValueError, "line 2: got no class of files/1.png"),
        ("file,label\nfiles/1.png,a\n", ValueError, "line 2: there is no field 'image'"),
        ("image,label\n", ValueError, "a.csv: got no rows to train on"),
    ],
)
def test_wrong_tables_are_named(
    pictures: Path, text: str, error: type[Exception], message: str
) -> None:
    (pictures / "a.csv").write_text(text)
    with pytest.raises(error, match=message):
        table()
