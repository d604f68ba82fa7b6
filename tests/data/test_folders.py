"""Folders of images: sizes, colours, parts, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from graphformer.data import ImageArrays, ImageFolder, MissingDataError
from graphformer.data.folders import read_image

PIL = pytest.importorskip("PIL.Image", reason="image files need Pillow")
SIZES = [(8, 12), (4, 4), (9, 14), (8, 12), (12, 8), (7, 5), (8, 12)]


def write(file: Path, size: tuple[int, int], seed: int, mode: str = "RGB") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    shape = size if mode == "L" else (*size, 3)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    PIL.fromarray(pixels, mode=None).save(file)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of 7 images each, of mixed sizes, some of them grey."""
    for label, name in enumerate(("cats", "dogs")):
        for i, size in enumerate(SIZES):
            mode = "L" if i == 3 else "RGB"
            write(tmp_path / "pets" / name / f"{i}.png", size, 10 * label + i, mode)
    return tmp_path / "pets"


def read(folder: Path, **settings: object) -> ImageFolder:
    data = ImageFolder(str(folder), 4, 5, val_fraction=0.2, test_fraction=0.2, **settings)
    data.setup()
    return data


def test_images_of_their_own_sizes_are_packed(folder: Path) -> None:
    data = read(folder)
    assert (data.num_features, data.num_classes, data.shape) == (48, 2, None)
    assert data.classes == ["cats", "dogs"]
    batches = [b for part in ("train", "val", "test") for b in data.batches(part)]
    shapes = sorted(shape for batch in batches for shape in batch.shapes)
    assert shapes == sorted(2 * [(h // 4, w // 4) for h, w in SIZES])
    assert sorted(torch.cat([batch.y for batch in batches]).tolist()) == [0] * 7 + [1] * 7
    assert all(len(batch.x) == sum(batch.lengths) for batch in batches)


def test_pixels_are_those_of_the_file(folder: Path) -> None:
    data = read(folder)
    samples = data._parts["test"]
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
    for part, names in {"train": ("cats", "dogs"), "test": ("dogs", "cats")}.items():
        for i, name in enumerate(names):
            for j in range(5):
                write(folder.parent / "split" / part / name / f"{j}.png", (8, 8), i)
    data = ImageFolder(str(folder.parent / "split"), 4, 5, val_fraction=0.3)
    data.setup()
    assert [len(data._parts[part]) for part in ("train", "val", "test")] == [7, 3, 10]


def test_a_corrupt_file_is_named_when_it_is_read(folder: Path) -> None:
    (folder / "cats" / "0.png").write_bytes(b"no image at all")
    (folder / "dogs" / "1.png").write_bytes((folder / "dogs" / "2.png").read_bytes()[:70])
    with pytest.raises(ValueError, match=r"cats/0\.png is no image that can be read.*skip_corrupt"):
        read_image(folder / "cats" / "0.png", 3)
    with pytest.raises(ValueError, match=r"\d\.png is no image that can be read"):
        read(folder)  # some are read for their mean
    with pytest.warns(UserWarning, match=r"skipped 2 of 14 files.*cats/0\.png"):
        data = read(folder, skip_corrupt=True)
    parts = [list(data.batches(part)) for part in ("train", "val", "test")]
    assert sum(len(batch.y) for batches in parts for batch in batches) == 12


def test_an_empty_class_folder_is_named(folder: Path) -> None:
    (folder / "emus").mkdir()
    with pytest.raises(ValueError, match="emus holds no images"):
        read(folder)


def test_missing_folders_and_small_images_are_explained(folder: Path) -> None:
    with pytest.raises(MissingDataError, match="no folder nowhere"):
        ImageFolder("nowhere").setup()
    (folder / "cats" / "plain").mkdir()
    with pytest.raises(ValueError, match="holds no folders"):
        read(folder / "cats" / "plain")
    with pytest.raises(ValueError, match="fewer than a patch of 16"):
        ImageFolder(str(folder), 16).setup()


def test_arrays_with_and_without_channels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "x_train": rng.integers(0, 256, (29, 6, 10, 3), dtype=np.uint8),
        "y_train": np.arange(29) % 3,
        "x_test": rng.integers(0, 256, (7, 6, 10, 3), dtype=np.uint8),
        "y_test": np.arange(7)[:, None] % 3,
    }
    np.savez(tmp_path / "set.npz", **arrays)
    data = ImageArrays(str(tmp_path / "set.npz"), 2, 5, val_size=5)
    data.setup()
    assert (data.num_features, data.num_classes, data.shape) == (12, 3, (3, 5))
    batch = next(iter(data.test_dataloader()))
    first = data.pixels(batch.x)[0].reshape(3, 2, 2) * 255
    np.testing.assert_allclose(first, arrays["x_test"][0, :2, :2].transpose(2, 0, 1), atol=0.01)
    np.savez(tmp_path / "less.npz", x_train=arrays["x_train"])
    with pytest.raises(ValueError, match="lacks the array x_test, y_test, y_train"):
        ImageArrays(str(tmp_path / "less.npz")).setup()
