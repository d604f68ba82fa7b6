"""Images as graphs of patches: idx-gz sets (MNIST, Fashion-MNIST), scikit-learn's digits."""

from __future__ import annotations

import os
from abc import abstractmethod

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from graphformer.data.batches import BatchLoader, BatchOrder
from graphformer.data.files import data_root
from graphformer.data.idx import FILES, fetch, find_folder, read_idx
from graphformer.data.module import DataModule
from graphformer.nn.patches import patchify

Labelled = tuple[Tensor, Tensor]  # images [B, C, height, width] of numbers, labels [B]


class Patches:
    """Images cut into patches once; a batch is one gather and one scaling by mean and deviation."""

    def __init__(
        self, images: Tensor, labels: Tensor, patch_size: int, mean: float, std: float
    ) -> None:
        patches = patchify(images, patch_size)
        self.shape = (patches.shape[1], patches.shape[2])
        # In numpy: torch's threads cost more than they gain in a batch, the more so on busy cores.
        self.patches, self.labels = patches.flatten(1, 2).contiguous().numpy(), labels.long()
        self.mean, self.std = mean, std
        rows, columns = torch.arange(self.shape[0]), torch.arange(self.shape[1])
        self.pos = torch.cartesian_prod(rows, columns)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Tensor) -> Data:
        patches = self.patches[index.numpy()].astype(np.float32)
        patches -= self.mean
        patches /= self.std
        samples = len(index)
        return Data(
            x=torch.from_numpy(patches).flatten(0, 1),
            y=self.labels[index],
            pos=self.pos.repeat(samples, 1),
            lengths=(len(self.pos),) * samples,
            shapes=[self.shape] * samples,
        )


class PatchImages(DataModule):
    """Batches of images as patch nodes, from arrays that fit into memory.

    A batch has x [N, C * patch_size**2], pos [N, 2] (row, column), `lengths`, `shapes` and y [B].
    `num_features`, `num_classes` and `shape` (rows, columns of patches) are there after `setup`.
    Training batches are shuffled anew each epoch, by `seed`.
    """

    num_features: int
    num_classes: int
    shape: tuple[int, int]

    def __init__(
        self, *, patch_size: int, batch_size: int, val_size: int, num_workers: int, seed: int
    ) -> None:
        super().__init__()
        self.patch_size, self.batch_size, self.val_size = patch_size, batch_size, val_size
        self.num_workers, self.seed = num_workers, seed
        self._parts: dict[str, Patches] = {}

    @abstractmethod
    def read(self) -> tuple[Labelled, Labelled]:
        """Return (images, labels) for training and validation together, and for testing."""

    def setup(self, stage: str | None = None) -> None:
        """Read the images, split off those for validation, and cut them into patches."""
        if self._parts:
            return
        (images, labels), test = self.read()
        if not 0 < self.val_size < len(labels):
            raise ValueError(
                f"val_size is {self.val_size}: expected 1 to {len(labels) - 1}, as there are "
                f"{len(labels)} images to train and validate on."
            )
        order = torch.from_numpy(np.random.default_rng(self.seed).permutation(len(labels)))
        val, train = order[: self.val_size], order[self.val_size :]
        self.num_classes = int(torch.cat([labels, test[1]]).max()) + 1
        self._pack(train=(images[train], labels[train]), val=(images[val], labels[val]), test=test)

    def _pack(self, **parts: Labelled) -> None:
        pixels = parts["train"][0][:10_000].double()  # in random order, and enough for a mean
        mean, std = pixels.mean().item(), pixels.std().item()
        for part, (images, labels) in parts.items():
            # A constant image set has deviation 0, and would turn into NaN.
            self._parts[part] = Patches(images, labels, self.patch_size, mean, std or 1.0)
        self.shape = self._parts["train"].shape
        self.num_features = self._parts["train"].patches.shape[-1]

    def batches(self, part: str) -> BatchLoader:
        """Return the batches of a part."""
        images, shuffle = self._parts[part], part == "train"
        order = BatchOrder(len(images), self.batch_size, shuffle=shuffle, seed=self.seed)
        return BatchLoader(images, order, num_workers=self.num_workers)


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
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(
            patch_size=patch_size,
            batch_size=batch_size,
            val_size=val_size,
            num_workers=num_workers,
            seed=seed,
        )
        root = None if root is None else os.fspath(root)
        self.save_hyperparameters(logger=False)
        self.dataset, self.root, self.base_url = name, root, base_url

    def prepare_data(self) -> None:
        """Fetch the files that are missing."""
        folder = find_folder(data_root(self.root), self.dataset)
        fetch(folder, self.dataset, base_url=self.base_url)

    def read(self) -> tuple[Labelled, Labelled]:
        """Return the files' images and labels."""
        self.prepare_data()
        folder = find_folder(data_root(self.root), self.dataset)
        parts = [
            [torch.from_numpy(read_idx(folder / file).copy()) for file in FILES[part]]
            for part in ("train", "test")
        ]
        (train, train_labels), (test, test_labels) = parts
        return (train.unsqueeze(1), train_labels), (test.unsqueeze(1), test_labels)


class Digits(PatchImages):
    """scikit-learn's 1,797 handwritten digits of 8 x 8 pixels as patch nodes; nothing to fetch.

    `test_size` images are for testing and `val_size` for validation, drawn by `seed`.
    """

    def __init__(
        self,
        patch_size: int = 1,
        batch_size: int = 64,
        *,
        val_size: int = 180,
        test_size: int = 360,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(
            patch_size=patch_size,
            batch_size=batch_size,
            val_size=val_size,
            num_workers=num_workers,
            seed=seed,
        )
        self.save_hyperparameters(logger=False)
        self.test_size = test_size

    def read(self) -> tuple[Labelled, Labelled]:
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
        return (images[rest], labels[rest]), (images[test], labels[test])


def read_digits() -> Labelled:
    """Return scikit-learn's digits: images [1797, 8, 8] of values 0 to 16, and labels [1797]."""
    from sklearn.datasets import load_digits  # slow to import, and few need it

    digits = load_digits()
    return torch.from_numpy(digits.images).float(), torch.from_numpy(digits.target).long()
