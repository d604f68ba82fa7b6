"""Images as graphs of patches: idx-gz sets (MNIST, Fashion-MNIST), scikit-learn's digits."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from graphformer.data.augment import Augmentation, mixup
from graphformer.data.batches import BatchLoader, BatchOrder
from graphformer.data.files import data_root
from graphformer.data.idx import FILES, fetch, find_folder, read_idx
from graphformer.data.module import DataModule
from graphformer.data.records import find_file
from graphformer.nn.patches import patchify

Labelled = tuple[Any, Tensor]  # images [B, C, height, width] or a sequence of such, labels [B]


class Images:
    """Images of one or of several sizes; a batch is scaled, changed by chance, cut into patches.

    Args:
        images: [B, C, height, width], or a sequence of [C, height, width] each.
        labels: [B].
        patch_size: side of a patch; must divide all sides.
        mean, std: of each channel, [C].
        augmentation: changes of training images.
    """

    def __init__(
        self,
        images: Tensor | Sequence[Tensor],
        labels: Tensor,
        patch_size: int,
        mean: np.ndarray,
        std: np.ndarray,
        augmentation: Augmentation | None = None,
    ) -> None:
        # In numpy: torch's threads cost more than they gain in a batch, the more so on busy cores.
        self.images = images.numpy() if isinstance(images, Tensor) else images
        self.labels, self.patch_size = labels.long(), patch_size
        self.mean, self.std = (np.asarray(a, np.float32)[:, None, None] for a in (mean, std))
        self.augmentation = augmentation
        self._places: dict[tuple[int, int], Tensor] = {}
        if isinstance(images, Tensor):
            patchify(images[:1], patch_size)  # says so where they cannot be cut

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Tensor) -> Data:
        chosen = index.numpy()
        groups, order = self._scaled(chosen)
        mixed: dict[str, Any] = {}
        if self.augmentation is not None:
            generator = self.augmentation.generator(chosen)
            groups = [self.augmentation(group, generator) for group in groups]
            if self.augmentation.alpha is not None:
                if len(groups) > 1:
                    raise ValueError(
                        "augment 'mixup' adds images of one size, but these are of several: give "
                        "size, or leave mixup out."
                    )
                groups[0], other, share = mixup(groups[0], generator, self.augmentation.alpha)
                mixed = {"y_other": self.labels[index][other], "share": share}
        batch = pack(groups, order, self.patch_size, self._places)
        batch.y = self.labels[index]
        batch.update(mixed)
        return batch

    def _scaled(self, chosen: np.ndarray) -> tuple[list[Tensor], list[list[int]]]:
        """The images [b, C, height, width] of each size, and where each belongs in the batch."""
        if isinstance(self.images, np.ndarray):
            return [self._scale(self.images[chosen])], [list(range(len(chosen)))]
        images = [self.images[int(i)].numpy() for i in chosen]
        order: dict[tuple[int, ...], list[int]] = {}
        for place, image in enumerate(images):
            order.setdefault(image.shape, []).append(place)
        groups = [self._scale(np.stack([images[i] for i in own])) for own in order.values()]
        return groups, list(order.values())

    def _scale(self, images: np.ndarray) -> Tensor:
        scaled = images.astype(np.float32)
        scaled -= self.mean
        scaled /= self.std
        return torch.from_numpy(scaled)


def pack(
    groups: Sequence[Tensor],
    order: Sequence[Sequence[int]],
    patch_size: int,
    kept: dict[tuple[int, int], Tensor] | None = None,
) -> Data:
    """Images as one batch of patches: x, pos, lengths and shapes.

    Args:
        groups: images [b, C, height, width] of one size each.
        order: where each group's images belong in the batch.
        patch_size: side of a patch.
        kept: places [n, 2] of each shape, made once.
    """
    kept = {} if kept is None else kept
    grids: dict[int, Tensor] = {}
    for group, own in zip(groups, order, strict=True):
        patches = patchify(group, patch_size)
        shape = (patches.shape[1], patches.shape[2])
        if shape not in kept:
            kept[shape] = torch.cartesian_prod(*map(torch.arange, shape))
        if len(groups) == 1:
            return Data(
                x=patches.flatten(0, 2),
                pos=kept[shape].repeat(len(patches), 1),
                lengths=(len(kept[shape]),) * len(patches),
                shapes=[shape] * len(patches),
            )
        grids |= dict(zip(own, patches, strict=True))
    images = [grids[i] for i in range(len(grids))]
    shapes = [(image.shape[0], image.shape[1]) for image in images]
    return Data(
        x=torch.cat([image.flatten(0, 1) for image in images]),
        pos=torch.cat([kept[shape] for shape in shapes]),
        lengths=tuple(len(kept[shape]) for shape in shapes),
        shapes=shapes,
    )


class PatchImages(DataModule):
    """Batches of images as patch nodes.

    A batch has x [N, C * patch_size**2], pos [N, 2] (row, column), `lengths`, `shapes` and y [B].
    `num_features`, `num_classes` and, where all images have one size, `shape` (rows, columns of
    patches) are there after `setup`. Training batches are shuffled anew each epoch, by `seed`.

    Args:
        patch_size: side of a patch.
        batch_size: images a batch.
        val_size: images to validate on, taken from those to train on.
        augment: changes of training images, see `graphformer.data.augment.Augmentation`.
        label_fraction: share of the training images to keep, as much of every class.
        num_workers: processes that make batches.
        seed: of the split, the order and the changes.
    """

    num_features: int
    num_classes: int
    shape: tuple[int, int] | None
    largest: float = 255.0
    """The brightest value of a pixel."""

    def __init__(
        self,
        *,
        patch_size: int,
        batch_size: int,
        val_size: int,
        augment: Sequence[str] = (),
        label_fraction: float = 1.0,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not 0 < label_fraction <= 1:
            raise ValueError(f"label_fraction is {label_fraction}: expected above 0, up to 1.")
        self.patch_size, self.batch_size, self.val_size = patch_size, batch_size, val_size
        self.label_fraction, self.num_workers, self.seed = label_fraction, num_workers, seed
        self.augmentation = Augmentation(augment, seed) if augment else None
        self.mean = self.std = np.zeros(0)
        self._parts: dict[str, Images] = {}

    @abstractmethod
    def read(self) -> dict[str, Labelled]:
        """Return images and labels of the parts 'train', 'test' and perhaps 'val'.

        Without 'val', `val_size` images are drawn from those for training.
        """

    def setup(self, stage: str | None = None) -> None:
        """Read the images, and split off those for validation."""
        if self._parts:
            return
        parts = dict(self.read())
        images, labels = parts["train"]
        if "val" not in parts:
            val, train = split_off(len(labels), self.val_size, self.seed)
            parts["val"] = (_rows(images, val), labels[val])
            images, labels = _rows(images, train), labels[train]
        kept = some_of_each(labels, self.label_fraction, self.seed)
        parts["train"] = (_rows(images, kept), labels[kept])
        self.num_classes = int(max(labels.max() for _, labels in parts.values())) + 1
        self._pack(**parts)

    def _pack(self, **parts: Labelled) -> None:
        self.mean, self.std = pixel_statistics(parts["train"][0])
        for part, (images, labels) in parts.items():
            changes = self.augmentation if part == "train" else None
            self._parts[part] = Images(
                images, labels, self.patch_size, self.mean, self.std, changes
            )
        self.num_features = len(self.mean) * self.patch_size**2
        sides = common_size(parts["train"][0])
        self.shape = None
        if sides is not None:
            self.shape = (sides[0] // self.patch_size, sides[1] // self.patch_size)

    def batches(self, part: str) -> BatchLoader:
        """Return the batches of a part."""
        images, shuffle = self._parts[part], part == "train"
        order = BatchOrder(len(images), self.batch_size, shuffle=shuffle, seed=self.seed)
        return BatchLoader(images, order, num_workers=self.num_workers)

    def pixels(self, x: Tensor) -> Tensor:
        """Patches [..., C * patch_size**2] of a batch as they were before scaling, from 0 to 1."""
        return restore_pixels(x, self.mean, self.std, self.patch_size) / self.largest


def restore_pixels(x: Tensor, mean: np.ndarray, std: np.ndarray, patch_size: int) -> Tensor:
    """Undo the scaling of patches [..., C * patch_size**2] by mean and deviation of channels."""
    by_pixel = (
        torch.from_numpy(np.repeat(np.asarray(a, np.float32), patch_size**2)) for a in (mean, std)
    )
    offset, scale = by_pixel
    return (x * scale + offset).clamp(min=0)


def split_off(count: int, part: int, seed: int) -> tuple[Tensor, Tensor]:
    """Numbers of the `part` images drawn to validate on, and of the others."""
    if not 0 < part < count:
        raise ValueError(
            f"val_size is {part}: expected 1 to {count - 1}, as there are {count} images to train "
            "and validate on."
        )
    order = torch.from_numpy(np.random.default_rng(seed).permutation(count))
    return order[:part], order[part:]


def some_of_each(labels: Tensor, fraction: float, seed: int) -> Tensor:
    """Which items to keep, [k] ascending: a share of every class, at least one, by chance."""
    if fraction == 1:
        return torch.arange(len(labels))
    generator = np.random.default_rng((seed, 2))
    kept = []
    for label in labels.unique().tolist():
        own = np.flatnonzero(labels.numpy() == label)
        kept.append(generator.permutation(own)[: max(1, round(fraction * len(own)))])
    return torch.from_numpy(np.sort(np.concatenate(kept)))


def pixel_statistics(images: Tensor | Sequence[Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each channel, [C], over the first images; deviation 1 if constant."""
    if isinstance(images, Tensor):
        pixels = images[:10_000].transpose(0, 1).flatten(1).double()  # enough for a mean
    else:
        some = [images[i].flatten(1).double() for i in range(min(len(images), 200))]
        pixels = torch.cat(some, dim=1)
    std = pixels.std(1)
    # A constant image set has deviation 0, and would turn into NaN.
    return pixels.mean(1).numpy(), torch.where(std > 0, std, 1.0).numpy()


def common_size(images: Tensor | Sequence[Tensor]) -> tuple[int, int] | None:
    """The height and width that all of the images have; None where they may differ."""
    if isinstance(images, Tensor):
        return images.shape[2], images.shape[3]
    whole = images.images if isinstance(images, Subset) else images
    return getattr(whole, "size", None)


def _rows(images: Tensor | Sequence[Tensor], index: Tensor) -> Tensor | Sequence[Tensor]:
    return images[index] if isinstance(images, Tensor) else Subset(images, index)


class Subset(Sequence[Tensor]):
    """Some images of a sequence, read when they are asked for."""

    def __init__(self, images: Sequence[Tensor], index: Tensor) -> None:
        self.images, self.numbers = images, index.tolist()

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, i: Any) -> Any:
        return self.images[self.numbers[i]]


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
        root = None if root is None else os.fspath(root)
        self.save_hyperparameters(logger=False)
        self.dataset, self.root, self.base_url = name, root, base_url

    def prepare_data(self) -> None:
        """Fetch the files that are missing."""
        folder = find_folder(data_root(self.root), self.dataset)
        fetch(folder, self.dataset, base_url=self.base_url)

    def read(self) -> dict[str, Labelled]:
        """Return the files' images and labels."""
        self.prepare_data()
        folder = find_folder(data_root(self.root), self.dataset)
        parts = [
            [torch.from_numpy(read_idx(folder / file).copy()) for file in FILES[part]]
            for part in ("train", "test")
        ]
        (train, train_labels), (test, test_labels) = parts
        return {
            "train": (train.unsqueeze(1), train_labels),
            "test": (test.unsqueeze(1), test_labels),
        }


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

    def read(self) -> dict[str, Labelled]:
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
        ValueError: it lacks an array, or one has another shape.
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
        path, root = os.fspath(path), None if root is None else os.fspath(root)
        self.save_hyperparameters(logger=False)
        self.path, self.root, self.largest = path, root, largest

    def read(self) -> dict[str, Labelled]:
        """Return the file's images and labels."""
        file = find_file(self.path, self.root)
        with np.load(file) as arrays:
            lacking = {f"{a}_{part}" for a in "xy" for part in ("train", "test")} - set(arrays)
            if lacking:
                raise ValueError(
                    f"{file} lacks the array {', '.join(sorted(lacking))}; it has "
                    f"{', '.join(arrays) or 'none'}."
                )
            return {
                part: (
                    _channels_first(arrays[f"x_{part}"], file),
                    torch.from_numpy(arrays[f"y_{part}"].astype(np.int64).reshape(-1)),
                )
                for part in ("train", "test")
            }


def _channels_first(images: np.ndarray, file: Path) -> Tensor:
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
