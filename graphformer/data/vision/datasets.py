"""Labelled image sets: idx files, scikit-learn's digits, and array files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from typing_extensions import Unpack

from graphformer.data.io.cache import data_root
from graphformer.data.io.tabular import find_file
from graphformer.data.vision.arrays import brightest_value, is_cifar, read_cifar, read_npz
from graphformer.data.vision.base import ImagesAndLabels, PatchImages, PatchImagesOptions
from graphformer.data.vision.idx import FILES, download_idx, find_idx_folder, read_idx_split
from graphformer.deprecated import renamed_keywords
from graphformer.options import checked_options


class IdxImages(PatchImages):
    """MNIST, Fashion-MNIST or another set of the same four idx files, as patch nodes.

    The files, gzipped or not, are searched in `root`, `root`/raw, `root`/<name>/raw and
    `root`/mnist/MNIST/raw (`root`/fashion_mnist/FashionMNIST/raw). Missing ones are downloaded
    from `base_url`, or from the address of the set's authors.

    Args:
        name: of the set, "MNIST", "FashionMNIST" or another one.
        patch_size, batch_size, val_size, options: of `PatchImages`.
        root: the data root.
        base_url: address of the folder of the files.

    Raises:
        MissingDataError: when a file is missing and cannot be downloaded.
        ValueError: when a file is damaged, or patch_size does not divide the images' sides.
    """

    @checked_options
    def __init__(
        self,
        name: str = "FashionMNIST",
        patch_size: int = 4,
        batch_size: int = 128,
        *,
        root: str | None = None,
        base_url: str | None = None,
        val_size: int = 5000,
        **options: Unpack[PatchImagesOptions],
    ) -> None:
        super().__init__(
            patch_size=patch_size,
            batch_size=batch_size,
            val_size=val_size,
            **options,
        )
        self.save_hyperparameters(logger=False)
        self.dataset, self.root, self.base_url = name, root, base_url

    def prepare_data(self) -> None:
        """Download the files that are missing."""
        folder = find_idx_folder(data_root(self.root), self.dataset)
        download_idx(folder, self.dataset, base_url=self.base_url)

    def read(self) -> dict[str, ImagesAndLabels]:
        """Return the images, one channel each, and labels of the files."""
        self.prepare_data()
        folder = find_idx_folder(data_root(self.root), self.dataset)
        splits: dict[str, ImagesAndLabels] = {}
        for split in FILES:
            pixels, labels = read_idx_split(folder, split)
            images = torch.from_numpy(pixels.copy()).unsqueeze(1)
            splits[split] = (images, torch.from_numpy(labels.copy()).long())
        return splits


class Digits(PatchImages):
    """scikit-learn's 1,797 handwritten digits of 8 x 8 pixels as patch nodes; no download.

    Args:
        patch_size, batch_size, val_size, options: of `PatchImages`.
        test_size: number of test images, drawn by `seed`.
    """

    max_value = 16.0

    @checked_options
    def __init__(
        self,
        patch_size: int = 1,
        batch_size: int = 64,
        *,
        val_size: int = 180,
        test_size: int = 360,
        **options: Unpack[PatchImagesOptions],
    ) -> None:
        super().__init__(
            patch_size=patch_size,
            batch_size=batch_size,
            val_size=val_size,
            **options,
        )
        self.save_hyperparameters(logger=False)
        self.test_size = test_size

    def read(self) -> dict[str, ImagesAndLabels]:
        """Return the digits with a random test split.

        Raises:
            ValueError: when test_size leaves no image to train or to validate on.
        """
        images, labels = read_digits()
        if not 0 < self.test_size < len(labels) - 1:
            raise ValueError(
                f"test_size: got {self.test_size}, expected 1 to {len(labels) - 2} of "
                f"{len(labels)} images"
            )
        # Not the random numbers of the validation split, which would repeat this permutation.
        generator = np.random.default_rng((self.seed, 1))
        order = torch.from_numpy(generator.permutation(len(labels)))
        test, rest = order[: self.test_size], order[self.test_size :]
        images = images.unsqueeze(1)
        return {"train": (images[rest], labels[rest]), "test": (images[test], labels[test])}


class ImageArrays(PatchImages):
    """Images from an .npz file (Keras, MedMNIST) or a folder of CIFAR, as patch nodes.

    Args:
        path: an .npz file with x_train, y_train, x_test, y_test and maybe x_val, y_val (as Keras'
            mnist.npz), or train_images, train_labels and so on (MedMNIST); or a folder of CIFAR-10
            or CIFAR-100. Images are [B, height, width], or with 1, 3 or 4 channels behind.
        patch_size, batch_size, val_size, options: of `PatchImages`; val_size counts if there is no
            validation split.
        max_value: the value of the brightest pixel; by default 1 for booleans and floats up to 1,
            255 for other numbers up to 255, else 65,535.
        root: the data root.

    Raises:
        MissingDataError: when the path does not exist.
        ValueError: when it has another format, or an array is missing or has another shape or type.
    """

    @renamed_keywords(largest="max_value")
    @checked_options
    def __init__(
        self,
        path: str,
        patch_size: int = 4,
        batch_size: int = 128,
        *,
        val_size: int = 5000,
        max_value: float | None = None,
        root: str | None = None,
        **options: Unpack[PatchImagesOptions],
    ) -> None:
        super().__init__(
            patch_size=patch_size,
            batch_size=batch_size,
            val_size=val_size,
            **options,
        )
        self.save_hyperparameters(logger=False)
        self.path, self.root, self.given_max_value = path, root, max_value

    def read(self) -> dict[str, ImagesAndLabels]:
        """Return the images and labels of the file or folder."""
        folders = (Path(self.path).expanduser(), data_root(self.root) / self.path)
        folder = next((place for place in folders if is_cifar(place)), None)
        splits = read_cifar(folder) if folder else read_npz(find_file(self.path, self.root))
        if self.given_max_value is None:
            self.max_value = brightest_value(splits["train"][0])
        else:
            self.max_value = self.given_max_value
        return dict(splits)


def read_digits() -> tuple[Tensor, Tensor]:
    """Return scikit-learn's digits: images [1797, 8, 8] with values 0 to 16, and labels [1797]."""
    from sklearn.datasets import load_digits  # slow to import, and rarely needed

    digits = load_digits()
    return torch.from_numpy(digits.images).float(), torch.from_numpy(digits.target).long()
