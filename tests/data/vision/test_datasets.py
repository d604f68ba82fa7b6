"""Idx sets, digits and array files as data modules."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.images import gzipped_idx

from graphformer.data import Digits, IdxImages, ImageArrays
from graphformer.data.vision.idx import NAMES

SIDES = {"train": 29, "test": 7}


def test_digits_are_nodes() -> None:
    data = Digits(patch_size=1, batch_size=13)
    data.setup()
    batch = next(iter(data.train_dataloader()))
    assert (data.num_features, data.num_classes, data.shape) == (1, 10, (8, 8))
    assert batch.x.shape == (13 * 64, 1)
    with pytest.raises(ValueError, match="test_size: got 5000"):
        Digits(test_size=5000).setup()


def test_sets_that_do_not_fit_are_refused(toy: Path) -> None:
    images, labels = ((toy / name).read_bytes() for name in NAMES[:2])
    (toy / NAMES[0]).write_bytes(labels)
    with pytest.raises(ValueError, match=r"train-images.* shape \(53,\), expected 3 axes"):
        IdxImages("toy", 2, root=str(toy), val_size=11).setup()
    (toy / NAMES[0]).write_bytes(images)
    (toy / NAMES[1]).write_bytes(gzipped_idx(np.zeros(50, np.uint8)))
    with pytest.raises(ValueError, match=r"labels: got shape \(50,\) for 53 images"):
        IdxImages("toy", 2, root=str(toy), val_size=11).setup()
    with pytest.raises(ValueError, match="patch_size: got -2"):
        IdxImages("toy", -2, root=str(toy))


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
    with pytest.raises(ValueError, match="expected also x_test, y_test, y_train"):
        ImageArrays(str(tmp_path / "less.npz")).setup()


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
        ({"x_train": np.array([1, "a"], object)}, r"got no \.npz file of plain arrays"),
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
        data = ImageArrays(str(tmp_path / "set.npz"), 2, 5, val_size=5, max_value=1.0)
        data.setup()
        batch = next(iter(data.test_dataloader()))
        torch.testing.assert_close(data.pixels(batch.x)[0], torch.tensor([0.0, 1, 0, 1]))


def test_what_is_no_archive_is_named(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.zeros(3))
    (tmp_path / "text.npz").write_bytes(b"no archive")
    for name in ("one.npy", "text.npz"):
        with pytest.raises(ValueError, match=rf"{name}: got no \.npz file"):
            ImageArrays(str(tmp_path / name)).setup()
