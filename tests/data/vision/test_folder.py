"""Folders of images: sizes, colours, splits, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from graphformer.data import ImageArrays, ImageFolder, MissingDataError
from graphformer.data.vision.folder import read_image

PIL = pytest.importorskip("PIL.Image", reason="image files need Pillow")
SIDES = {"train": 29, "test": 7}
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
    batches = [b for split in ("train", "val", "test") for b in data.batches(split)]
    shapes = sorted(shape for batch in batches for shape in batch.shapes)
    assert shapes == sorted(2 * [(h // 4, w // 4) for h, w in SIZES])
    assert sorted(torch.cat([batch.y for batch in batches]).tolist()) == [0] * 7 + [1] * 7
    assert all(len(batch.x) == sum(batch.lengths) for batch in batches)


def test_pixels_are_those_of_the_file(folder: Path) -> None:
    data = read(folder)
    samples = data._splits["test"]
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
                write(folder.parent / "split" / split / name / f"{j}.png", (8, 8), i)
    data = ImageFolder(str(folder.parent / "split"), 4, 5, val_fraction=0.3)
    data.setup()
    assert [len(data._splits[split]) for split in ("train", "val", "test")] == [7, 3, 10]


def test_a_corrupt_file_is_named_when_it_is_read(folder: Path) -> None:
    (folder / "cats" / "0.png").write_bytes(b"no image at all")
    (folder / "dogs" / "1.png").write_bytes((folder / "dogs" / "2.png").read_bytes()[:70])
    with pytest.raises(ValueError, match=r"cats/0\.png is no image that can be read.*skip_corrupt"):
        read_image(folder / "cats" / "0.png", 3)
    with pytest.raises(ValueError, match=r"\d\.png is no image that can be read"):
        read(folder)  # some are read for their mean
    with pytest.warns(UserWarning, match=r"skipped 2 of 14 files.*cats/0\.png"):
        data = read(folder, skip_corrupt=True)
    splits = [list(data.batches(split)) for split in ("train", "val", "test")]
    assert sum(len(batch.y) for batches in splits for batch in batches) == 12


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


@pytest.mark.parametrize("kind", ["grey", "16 bits", "palette", "transparent", "CMYK", "bits"])
def test_pictures_of_every_mode_keep_their_brightness(kind: str, tmp_path: Path) -> None:
    shades = np.linspace(0, 255, 7 * 5).round().astype(np.uint8).reshape(7, 5)
    image, ending, tolerance = PIL.fromarray(shades), "png", 0
    if kind == "16 bits":
        image = PIL.fromarray(shades.astype(np.uint16) * 257)
    elif kind == "palette":
        image = image.convert("P")
    elif kind == "transparent":
        image.putalpha(PIL.fromarray(shades[::-1].copy()))
    elif kind == "CMYK":
        image, ending, tolerance = image.convert("RGB").convert("CMYK"), "tif", 1
    elif kind == "bits":
        shades = 255 * (shades > 99).astype(np.uint8)
        image = PIL.fromarray(shades).convert("1", dither=PIL.Dither.NONE)
    options = {"transparency": bytes(range(256))} if kind == "palette" else {}
    image.save(tmp_path / f"a.{ending}", **options)
    for channels in (1, 3):
        pixels = read_image(tmp_path / f"a.{ending}", channels)
        assert pixels.shape == (channels, 7, 5)
        np.testing.assert_allclose(pixels.astype(int), [shades] * channels, atol=tolerance)


def test_pixels_in_no_known_range_and_huge_pictures_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    PIL.fromarray(np.ones((7, 5), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match=r"a\.tif is no image.*mode F.*save 8 or 16 bits"):
        read_image(tmp_path / "a.tif", 1)
    write(tmp_path / "b.png", (11, 13), 0)
    monkeypatch.setattr(PIL, "MAX_IMAGE_PIXELS", 50)  # twice as many are an error
    with pytest.raises(ValueError, match=r"b\.png is no image.*143 pixels"):
        read_image(tmp_path / "b.png", 1)


def test_a_corrupt_file_that_a_worker_meets_is_named(folder: Path) -> None:
    data = read(folder, num_workers=1)
    samples = data._splits["train"].images
    samples.images.files[samples.numbers[-1]].write_bytes(b"no image at all")
    with pytest.raises(ValueError, match=r"^\S+\.png is no image that can be read"):
        list(data.batches("train"))


def test_a_class_without_a_readable_image_is_named(folder: Path) -> None:
    for file in (folder / "dogs").iterdir():
        file.write_bytes(b"no image at all")
    with (
        pytest.warns(UserWarning, match="skipped 7 of 14"),
        pytest.raises(ValueError, match="dogs holds no image that can be read"),
    ):
        read(folder, skip_corrupt=True)


def test_parts_may_lack_a_class_but_have_no_other(folder: Path) -> None:
    root = folder.parent / "split"
    for split, names in {"train": "abc", "val": "ac", "test": "c"}.items():
        for name in names:
            for i in range(2):
                write(root / split / name / f"{i}.png", (8, 8), i)
    data = ImageFolder(str(root), 4, 5)
    data.setup()
    labels = {p: torch.cat([b.y for b in data.batches(p)]) for p in ("train", "val", "test")}
    assert {p: sorted(y.tolist()) for p, y in labels.items()} == {
        "train": [0, 0, 1, 1, 2, 2],
        "val": [0, 0, 2, 2],
        "test": [2, 2],
    }
    write(root / "test" / "zebra" / "0.png", (8, 8), 0)
    with pytest.raises(ValueError, match="zebra is no class to train on"):
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
        ({"size": (8, 10)}, "size is 8 x 10, which patch_size 4 does not divide"),
        ({"size": (0, 8)}, "size is 0 x 8"),
        ({"patch_size": 0}, "patch_size: got 0"),
        ({"val_fraction": 0.0}, "no images in the split 'val'"),
        ({"num_workers": -1}, "num_workers: got -1"),
        ({"channels": 4}, "channels is 4"),
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y_train": np.arange(20)}, r"shape \(20,\) for 29 images of the split 'train'"),
        ({"y_train": np.arange(29) - 1}, "labels: got -1 in the split 'train'"),
        ({"y_train": np.arange(29) / 2}, "type float64"),
        ({"y_test": np.eye(7)}, r"labels of shape \(7, 7\)"),
        ({"x_train": np.full((29, 6, 10), np.nan)}, "not finite"),
        ({"x_test": np.zeros((7, 6, 10, 3))}, "got 3 channels in the split 'test', expected 1"),
        ({"x_train": np.zeros((29, 6, 10), "U3")}, "images of type <U3"),
        ({"x_test": np.zeros((0, 6, 10)), "y_test": np.zeros(0, int)}, "no images in .* 'test'"),
        ({"x_train": np.array([1, "a"], object)}, r"no \.npz file of plain arrays"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    change: dict[str, np.ndarray], message: str, tmp_path: Path
) -> None:
    arrays = {
        "x_train": np.zeros((29, 6, 10)),
        "y_train": np.arange(29) % 3,
        "x_test": np.zeros((7, 6, 10)),
        "y_test": np.arange(7) % 3,
    }
    np.savez(tmp_path / "set.npz", **{**arrays, **change})
    with pytest.raises(ValueError, match=message):
        ImageArrays(str(tmp_path / "set.npz"), 2, val_size=5).setup()


def test_arrays_of_any_kind_of_numbers_are_read(tmp_path: Path) -> None:
    labels = {"y_train": np.arange(29) % 3, "y_test": np.arange(7) % 3}
    for dtype in (np.uint16, bool, ">f4", np.float16):
        images = {f"x_{p}": (np.arange(n * 60) % 2).reshape(n, 6, 10) for p, n in SIDES.items()}
        cast = {name: array.astype(dtype) for name, array in images.items()}
        np.savez(tmp_path / "set.npz", **cast, **labels)
        data = ImageArrays(str(tmp_path / "set.npz"), 2, 5, val_size=5, largest=1.0)
        data.setup()
        batch = next(iter(data.test_dataloader()))
        torch.testing.assert_close(data.pixels(batch.x)[0], torch.tensor([0.0, 1, 0, 1]))


def test_what_is_no_archive_is_named(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.zeros(3))
    (tmp_path / "text.npz").write_bytes(b"no archive")
    for name in ("one.npy", "text.npz"):
        with pytest.raises(ValueError, match=rf"{name} is no \.npz file"):
            ImageArrays(str(tmp_path / name)).setup()
