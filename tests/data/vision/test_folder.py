"""Folders of images: sizes, colours, splits, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.images import write_image

from graphformer.data import ImageFolder, MissingDataError
from graphformer.data.vision.files import read_image

PIL = pytest.importorskip("PIL.Image", reason="image files need Pillow")
SIZES = [(8, 12), (4, 4), (9, 14), (8, 12), (12, 8), (7, 5), (8, 12)]


def read(folder: Path, **settings: object) -> ImageFolder:
    data = ImageFolder(str(folder), 4, 5, val_fraction=0.2, test_fraction=0.2, **settings)
    data.setup()
    return data


def test_images_of_their_own_sizes_are_packed(folder: Path) -> None:
    data = read(folder)
    assert (data.num_features, data.num_classes, data.shape) == (48, 2, None)
    assert data.classes == ["cats", "dogs"]
    batches = [b for split in ("train", "val", "test") for b in data.batches(split)]
    shapes = sorted(shape for batch in batches for shape in batch.shapes)
    assert shapes == sorted(2 * [(h // 4, w // 4) for h, w in SIZES])
    assert sorted(torch.cat([batch.y for batch in batches]).tolist()) == [0] * 7 + [1] * 7
    assert all(len(batch.x) == sum(batch.lengths) for batch in batches)


def test_pixels_are_those_of_the_file(folder: Path) -> None:
    data = read(folder)
    samples = data.samples("test")
    batch = samples[torch.tensor([0])]
    with PIL.open(samples.images.files[0]) as image:
        expected = np.asarray(image.convert("RGB"))
    height, width = (side // 4 * 4 for side in expected.shape[:2])
    top, left = (expected.shape[0] - height) // 2, (expected.shape[1] - width) // 2
    first = data.pixels(batch.x)[0].reshape(3, 4, 4) * 255
    wanted = expected[top : top + 4, left : left + 4].transpose(2, 0, 1)
    np.testing.assert_allclose(first.numpy(), wanted, atol=0.01)


def test_one_size_and_grey(folder: Path) -> None:
    data = read(folder, size=(8, 16), channels=1)
    batch = next(iter(data.train_dataloader()))
    assert data.num_features == 16
    assert set(batch.shapes) == {(2, 4)}


def test_folders_of_parts_are_taken_as_they_are(folder: Path) -> None:
    for split, names in {"train": ("cats", "dogs"), "test": ("dogs", "cats")}.items():
        for i, name in enumerate(names):
            for j in range(5):
                write_image(folder.parent / "split" / split / name / f"{j}.png", (8, 8), i)
    data = ImageFolder(str(folder.parent / "split"), 4, 5, val_fraction=0.3)
    data.setup()
    assert [len(data.splits[split][1]) for split in ("train", "val", "test")] == [7, 3, 10]


def test_a_corrupt_file_is_named_when_it_is_read(folder: Path) -> None:
    (folder / "cats" / "0.png").write_bytes(b"no image at all")
    (folder / "dogs" / "1.png").write_bytes((folder / "dogs" / "2.png").read_bytes()[:70])
    with pytest.raises(
        ValueError, match=r"cats/0\.png: got no image that can be read.*skip_corrupt"
    ):
        read_image(folder / "cats" / "0.png", 3)
    with pytest.raises(ValueError, match=r"\d\.png: got no image that can be read"):
        read(folder)  # some are read for their mean
    with pytest.warns(UserWarning, match=r"skipped 2 of 14 files.*cats/0\.png"):
        data = read(folder, skip_corrupt=True)
    splits = [list(data.batches(split)) for split in ("train", "val", "test")]
    assert sum(len(batch.y) for batches in splits for batch in batches) == 12


def test_an_empty_class_folder_is_named(folder: Path) -> None:
    (folder / "emus").mkdir()
    with pytest.raises(ValueError, match="emus: got no images"):
        read(folder)


def test_missing_folders_and_small_images_are_explained(folder: Path) -> None:
    with pytest.raises(MissingDataError, match="no folder nowhere"):
        ImageFolder("nowhere").setup()
    (folder / "cats" / "plain").mkdir()
    with pytest.raises(ValueError, match="got no folders"):
        read(folder / "cats" / "plain")
    with pytest.raises(ValueError, match="at least a patch of 16 x 16"):
        ImageFolder(str(folder), 16).setup()


def test_a_corrupt_file_that_a_worker_meets_is_named(folder: Path) -> None:
    data = read(folder, num_workers=1)
    samples = data.samples("train").images
    samples.images.files[samples.rows[-1]].write_bytes(b"no image at all")
    with pytest.raises(ValueError, match=r"^\S+\.png: got no image that can be read"):
        list(data.batches("train"))


def test_a_class_without_a_readable_image_is_named(folder: Path) -> None:
    for file in (folder / "dogs").iterdir():
        file.write_bytes(b"no image at all")
    with (
        pytest.warns(UserWarning, match="skipped 7 of 14"),
        pytest.raises(ValueError, match="dogs: got no image that can be read"),
    ):
        read(folder, skip_corrupt=True)


def test_parts_may_lack_a_class_but_have_no_other(folder: Path) -> None:
    root = folder.parent / "split"
    for split, names in {"train": "abc", "val": "ac", "test": "c"}.items():
        for name in names:
            for i in range(2):
                write_image(root / split / name / f"{i}.png", (8, 8), i)
    data = ImageFolder(str(root), 4, 5)
    data.setup()
    labels = {p: torch.cat([b.y for b in data.batches(p)]) for p in ("train", "val", "test")}
    assert {p: sorted(y.tolist()) for p, y in labels.items()} == {
        "train": [0, 0, 1, 1, 2, 2],
        "val": [0, 0, 2, 2],
        "test": [2, 2],
    }
    write_image(root / "test" / "zebra" / "0.png", (8, 8), 0)
    with pytest.raises(ValueError, match="zebra: got a class that is not in the training split"):
        ImageFolder(str(root), 4, 5).setup()


def test_the_mean_is_that_of_all_classes(tmp_path: Path) -> None:
    for name, shade in (("dark", 0), ("light", 200)):
        for i in range(211):  # more than are looked at
            file = tmp_path / "train" / name / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            PIL.fromarray(np.full((4, 4), shade, np.uint8)).save(file)
    data = ImageFolder(str(tmp_path), 4, channels=1)
    data.setup()
    assert 80 < data.mean[0] < 120


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": (8, 10)}, "size: got 8 x 10, expected multiples of patch_size 4"),
        ({"size": (0, 8)}, "size: got 0 x 8"),
        ({"patch_size": 0}, "patch_size: got 0"),
        ({"val_fraction": 0.0}, "no images in the split 'val'"),
        ({"num_workers": -1}, "num_workers: got -1"),
        ({"channels": 4}, "channels: got 4"),
    ],
)
def test_senseless_settings_are_refused(
    settings: dict[str, object], message: str, folder: Path
) -> None:
    def batches() -> object:
        data = ImageFolder(str(folder), **{"patch_size": 4, **settings})
        data.setup()
        return data.train_dataloader()

    with pytest.raises(ValueError, match=message):
        batches()


def test_what_is_left_out_of_a_class_is_reported(folder: Path) -> None:
    write_image(folder / "cats" / ".ipynb_checkpoints" / "0.png", (8, 8), 0)
    (folder / "cats" / "._0.png").write_bytes(b"\0\5\x16\7")
    (folder / ".git").mkdir()
    assert sum(len(read(folder).splits[split][1]) for split in ("train", "val", "test")) == 14
    (folder / "dogs" / "labels.csv").write_text("0,1")
    write_image(folder / "loose.png", (8, 8), 0)
    with pytest.warns(UserWarning, match=r"left out 2 files .*\(\.csv, \.png\), first .*loose"):
        data = read(folder)
    assert data.classes == ["cats", "dogs"]


SPLIT_NAMES = [("train", "val", "test"), ("training", "valid", "testing"), ("Train", "dev", "Test")]


@pytest.mark.parametrize("names", SPLIT_NAMES)
def test_folders_of_splits_have_several_names(names: tuple[str, ...], tmp_path: Path) -> None:
    for count, name in enumerate(names, 2):
        for label in "ab":
            for i in range(count):
                write_image(tmp_path / name / label / f"{i}.png", (8, 8), i)
    data = ImageFolder(str(tmp_path), 4, 5)
    data.setup()
    sizes = [len(data.splits[split][1]) for split in ("train", "val", "test")]
    assert sizes == [4, 6, 8]
    assert data.classes == ["a", "b"]


def test_a_class_may_have_the_name_of_a_split(tmp_path: Path) -> None:
    for name in ("bus", "train"):
        for i in range(5):
            write_image(tmp_path / name / f"{i}.png", (8, 8), i)
    assert read(tmp_path).classes == ["bus", "train"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("val/a", "test/a"), "got the folders test, val, expected also train"),
        (("train/a", "val/a", "valid/a"), "got the folders val and valid, expected one"),
    ],
)
def test_folders_of_splits_that_do_not_fit_are_refused(
    names: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    for name in names:
        write_image(tmp_path / name / "0.png", (8, 8), 0)
    with pytest.raises(ValueError, match=message):
        ImageFolder(str(tmp_path), 4).setup()


def test_folders_beside_the_splits_are_reported(tmp_path: Path) -> None:
    for name in ("train/a", "train/b", "unlabelled/c"):
        for i in range(7):
            write_image(tmp_path / name / f"{i}.png", (8, 8), i)
    with pytest.warns(UserWarning, match="left out unlabelled next to the folders of splits"):
        assert read(tmp_path).classes == ["a", "b"]


def test_composed_and_decomposed_names_are_one_class(tmp_path: Path) -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    for split, name in (("train", composed), ("test", decomposed)):
        for other in (name, "bar"):
            for i in range(3):
                write_image(tmp_path / split / other / f"{i}.png", (8, 8), i)
    data = ImageFolder(str(tmp_path), 4, 5, val_fraction=0.3)
    data.setup()
    assert data.classes == ["bar", composed]
    assert sorted(data.splits["test"][1].tolist()) == [0, 0, 0, 1, 1, 1]


def test_a_class_may_be_a_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").mkdir()
    for name in ("cats", "dogs"):
        target = folder / name
        (tmp_path / "linked" / name).symlink_to(target, target_is_directory=True)
    data = read(tmp_path / "linked")
    assert sum(len(data.splits[split][1]) for split in ("train", "val", "test")) == 14


def test_every_split_has_the_same_share_of_each_class(tmp_path: Path) -> None:
    for label, count in (("many", 30), ("few", 10)):
        for i in range(count):
            write_image(tmp_path / label / f"{i}.png", (4, 4), i)
    data = read(tmp_path)  # a fifth each for validation and test
    counts = {split: data.splits[split][1].bincount().tolist() for split in data.splits}
    assert counts == {"val": [2, 6], "test": [2, 6], "train": [6, 18]}


def test_splits_of_earlier_releases_ignore_classes(tmp_path: Path) -> None:
    for label, count in (("few", 3), ("many", 17)):
        for i in range(count):
            write_image(tmp_path / label / f"{i:02}.png", (4, 4), i)
    labels = np.repeat([0, 1], [3, 17])
    for seed in range(5):
        data = read(tmp_path, stratify=False, seed=seed)
        chosen = np.sort(np.random.default_rng(seed).permutation(20)[:4])
        assert data.splits["val"][1].tolist() == labels[chosen].tolist()


def test_small_images_are_skipped_with_corrupt_ones(folder: Path) -> None:
    write_image(folder / "cats" / "small.png", (3, 9), 0)
    with pytest.warns(UserWarning, match=r"skipped 1 of 15 files .* too small, first .*small\.png"):
        data = read(folder, skip_corrupt=True)
    assert sum(len(data.splits[split][1]) for split in data.splits) == 14


@pytest.mark.parametrize("is_set_up", [False, True])
def test_classes_of_a_checkpoint_keep_their_numbers(tmp_path: Path, is_set_up: bool) -> None:
    for name, classes in (("run", "abcd"), ("other", "bd"), ("unknown", "bz")):
        for label in classes:
            for i in range(5):
                write_image(tmp_path / name / label / f"{i}.png", (4, 4), i)
    run = read(tmp_path / "run")
    state = run.state_dict()
    assert state["classes"] == ["a", "b", "c", "d"]
    other, unknown = (
        ImageFolder(str(tmp_path / name), 4, 5, val_fraction=0.2, test_fraction=0.2)
        for name in ("other", "unknown")
    )
    if is_set_up:
        other.setup()
        unknown.setup()
    other.load_state_dict(state)
    other.setup()
    for images, labels in other.splits.values():
        files = images.images.files if hasattr(images, "images") else images.files
        rows = images.rows if hasattr(images, "rows") else range(len(files))
        folders = [files[row].parent.name for row in rows]
        assert [run.classes[label] for label in labels] == folders
    assert other.num_classes == 4
    other.setup()  # a second time changes nothing
    assert sorted({int(label) for _, labels in other.splits.values() for label in labels}) == [1, 3]

    def load() -> None:
        unknown.load_state_dict(state)
        unknown.setup()

    with pytest.raises(ValueError, match="got the classes z, expected those of the run"):
        load()
