"""Sets of images to be classified: idx files, scikit-learn's digits and NumPy archives."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from graphformer.data.io.cache import data_root
from graphformer.data.io.tabular import find_file
from graphformer.data.vision.base import ImagesAndLabels, PatchImages
from graphformer.data.vision.idx import FILES, download_idx, find_idx_folder, read_idx


class IdxImages(PatchImages):
    """MNIST, Fashion-MNIST or another set of the same four idx.gz files, as patch nodes.

    The files are looked for in `root`, `root`/raw, `root`/<name>/raw and `root`/mnist/MNIST/raw
    (`root`/fashion_mnist/FashionMNIST/raw), and fetched from `base_url`, or from where the set's
    authors keep it, if they are in none of these. Validation images are drawn by `seed`.

    Raises:
        MissingDataError: a file is not there and cannot be fetched.
        ValueError: a file is damaged, or patch_size does not divide the images' sides.
    """

    def __init__(
        self,
        name: str = "FashionMNIST",
        patch_size: int = 4,
        batch_size: int = 128,
        *,
        root: str | None = None,
        base_url: str | None = None,
        val_size: int = 5000,
        augment: Sequence[str] = (),
        label_fraction: float = 1.0,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(
            patch_size=patch_size,
            batch_size=batch_size,
            val_size=val_size,
            augment=augment,
            label_fraction=label_fraction,
            num_workers=num_workers,
            seed=seed,
        )
        self.save_hyperparameters(logger=False)
        self.dataset, self.root, self.base_url = name, root, base_url

    def prepare_data(self) -> None:
        """Fetch the files that are missing."""
        folder = find_idx_folder(data_root(self.root), self.dataset)
        download_idx(folder, self.dataset, base_url=self.base_url)

    def read(self) -> dict[str, ImagesAndLabels]:
        """Return the files' images and labels."""
        self.prepare_data()
        folder = find_idx_folder(data_root(self.root), self.dataset)
        splits: dict[str, ImagesAndLabels] = {}
        for split, (images, labels) in FILES.items():
            pixels, classes = read_idx(folder / images, ndim=3), read_idx(folder / labels, ndim=1)
            splits[split] = (
                torch.from_numpy(pixels.copy()).unsqueeze(1),
                torch.from_numpy(classes.copy()).long(),
            )
        return splits


class Digits(PatchImages):
    """scikit-learn's 1,797 handwritten digits of 8 x 8 pixels as patch nodes; nothing to fetch.

    `test_size` images are for testing and `val_size` for validation, drawn by `seed`.
    """

    largest = 16.0

    def __init__(
        self,
        patch_size: int = 1,
        batch_size: int = 64,
        *,
        val_size: int = 180,
        test_size: int = 360,
        augment: Sequence[str] = (),
        label_fraction: float = 1.0,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(
            patch_size=patch_size,
            batch_size=batch_size,
            val_size=val_size,
            augment=augment,
            label_fraction=label_fraction,
            num_workers=num_workers,
            seed=seed,
        )
        self.save_hyperparameters(logger=False)
        self.test_size = test_size

    def read(self) -> dict[str, ImagesAndLabels]:
        """Return the digits, those for testing drawn at random."""
        images, labels = read_digits()
        if not 0 < self.test_size < len(labels) - 1:
            raise ValueError(
                f"test_size is {self.test_size}: expected 1 to {len(labels) - 2} of "
                f"{len(labels)} images."
            )
        # Another stream than the validation split's, which would follow this permutation.
        generator = np.random.default_rng((self.seed, 1))
        order = torch.from_numpy(generator.permutation(len(labels)))
        test, rest = order[: self.test_size], order[self.test_size :]
        images = images.unsqueeze(1)
        return {"train": (images[rest], labels[rest]), "test": (images[test], labels[test])}


class ImageArrays(PatchImages):
    """Images from a file of numpy arrays, as patch nodes.

    Args:
        path: an .npz file with x_train, y_train, x_test and y_test, as Keras' mnist.npz has them;
            images are [B, height, width], or [B, height, width, C] with 1, 3 or 4 channels.
        patch_size, batch_size, val_size, augment, label_fraction, num_workers, seed: of
            `PatchImages`.
        largest: the brightest value of a pixel.
        root: the data root.

    Raises:
        MissingDataError: there is no such file.
        ValueError: it is no such file, lacks an array, or one has another shape or type.
    """

    def __init__(
        self,
        path: str,
        patch_size: int = 4,
        batch_size: int = 128,
        *,
        val_size: int = 5000,
        largest: float = 255.0,
        augment: Sequence[str] = (),
        label_fraction: float = 1.0,
        root: str | None = None,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(
            patch_size=patch_size,
            batch_size=batch_size,
            val_size=val_size,
            augment=augment,
            label_fraction=label_fraction,
            num_workers=num_workers,
            seed=seed,
        )
        self.save_hyperparameters(logger=False)
        self.path, self.root, self.largest = path, root, largest

    def read(self) -> dict[str, ImagesAndLabels]:
        """Return the file's images and labels."""
        file = find_file(self.path, self.root)
        arrays = _arrays(file)
        lacking = {f"{a}_{split}" for a in "xy" for split in ("train", "test")} - set(arrays)
        if lacking:
            raise ValueError(
                f"{file} lacks the array {', '.join(sorted(lacking))}; it has "
                f"{', '.join(arrays) or 'none'}."
            )
        return {
            split: (
                _channels_first(arrays[f"x_{split}"], file),
                _classes(arrays[f"y_{split}"], file),
            )
            for split in ("train", "test")
        }


def _arrays(file: Path) -> dict[str, np.ndarray]:
    """All arrays of an .npz file."""
    try:
        with file.open("rb") as raw, np.load(raw) as arrays:
            return {name: arrays[name] for name in arrays}
    except (ValueError, TypeError, EOFError, BadZipFile, zlib.error) as error:
        raise ValueError(
            f"{file} is no .npz file of plain arrays that can be read ({error}): write it by "
            "numpy.savez."
        ) from None


def _classes(labels: np.ndarray, file: Path) -> Tensor:
    """Labels [B] or [B, 1] as int64 [B]."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ValueError(
            f"{file} holds labels of shape {labels.shape} and type {labels.dtype}: expected [B], "
            "the number of each image's class."
        )
    return torch.from_numpy(labels.astype(np.int64))


def _channels_first(images: np.ndarray, file: Path) -> Tensor:
    if images.dtype.kind not in "biuf":
        raise ValueError(f"{file} holds images of type {images.dtype}: expected numbers.")
    images = images.astype(images.dtype.newbyteorder("="), copy=False)
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[-1] not in (1, 3, 4):
        raise ValueError(
            f"{file} holds images of shape {images.shape}: expected [B, height, width], or with 1, "
            "3 or 4 channels behind."
        )
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def read_digits() -> tuple[Tensor, Tensor]:
    """Return scikit-learn's digits: images [1797, 8, 8] of values 0 to 16, and labels [1797]."""
    from sklearn.datasets import load_digits  # slow to import, and few need it

    digits = load_digits()
    return torch.from_numpy(digits.images).float(), torch.from_numpy(digits.target).long()
