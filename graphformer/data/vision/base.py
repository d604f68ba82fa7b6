"""Images as graphs of patches: how they are packed, split and labelled."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from graphformer.data.base import DataModule
from graphformer.data.checks import check_channels, check_patch_size, check_split
from graphformer.data.loader import BatchLoader, BatchSampler
from graphformer.data.vision.augment import Augmentation, mixup
from graphformer.nn.patches import patchify

ImagesAndLabels = tuple[Any, Tensor]
"""Images, [B, C, height, width] or a sequence of [C, height, width], and labels [B]."""


class ImageSamples:
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
        augment: changes of training images, see `graphformer.data.vision.augment.Augmentation`.
        label_fraction: share of the training images to keep, as much of every class.
        num_workers: processes that make batches.
        seed: of the split, the order and the changes.
    """

    channels: int
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
        check_patch_size(patch_size)
        if not 0 < label_fraction <= 1:
            raise ValueError(f"label_fraction is {label_fraction}: expected above 0, up to 1.")
        self.patch_size, self.batch_size, self.val_size = patch_size, batch_size, val_size
        self.label_fraction, self.num_workers, self.seed = label_fraction, num_workers, seed
        self.augmentation = Augmentation(augment, seed) if augment else None
        self.mean = self.std = np.zeros(0)
        self._splits: dict[str, ImageSamples] = {}

    @abstractmethod
    def read(self) -> dict[str, ImagesAndLabels]:
        """Return images and labels of the splits 'train', 'test' and perhaps 'val'.

        Without 'val', `val_size` images are drawn from those for training.
        """

    def setup(self, stage: str | None = None) -> None:
        """Read the images, and split off those for validation."""
        if self._splits:
            return
        splits = dict(self.read())
        for split, (images, labels) in splits.items():
            check_split(split, images, labels)
        images, labels = splits["train"]
        if "val" not in splits:
            val, train = split_indices(len(labels), self.val_size, self.seed)
            splits["val"] = (_rows(images, val), labels[val])
            images, labels = _rows(images, train), labels[train]
        kept = stratified_subset(labels, self.label_fraction, self.seed)
        splits["train"] = (_rows(images, kept), labels[kept])
        self.num_classes = int(max(labels.max() for _, labels in splits.values())) + 1
        self._pack(**splits)

    def _pack(self, **splits: ImagesAndLabels) -> None:
        self.mean, self.std = pixel_statistics(splits["train"][0])
        check_channels(len(self.mean), {p: images for p, (images, _) in splits.items()})
        for split, (images, labels) in splits.items():
            changes = self.augmentation if split == "train" else None
            self._splits[split] = ImageSamples(
                images, labels, self.patch_size, self.mean, self.std, changes
            )
        self.channels = len(self.mean)
        self.num_features = self.channels * self.patch_size**2
        sides = common_size(splits["train"][0])
        self.shape = None
        if sides is not None:
            self.shape = (sides[0] // self.patch_size, sides[1] // self.patch_size)

    def batches(self, split: str) -> BatchLoader:
        """Return the batches of a split."""
        images, shuffle = self._splits[split], split == "train"
        order = BatchSampler(len(images), self.batch_size, shuffle=shuffle, seed=self.seed)
        return BatchLoader(images, order, num_workers=self.num_workers)

    def pixels(self, x: Tensor) -> Tensor:
        """Patches [..., C * patch_size**2] of a batch as they were before scaling, from 0 to 1."""
        return denormalize(x, self.mean, self.std, self.patch_size) / self.largest


def denormalize(x: Tensor, mean: np.ndarray, std: np.ndarray, patch_size: int) -> Tensor:
    """Undo the scaling of patches [..., C * patch_size**2] by mean and deviation of channels."""
    by_pixel = (
        torch.from_numpy(np.repeat(np.asarray(a, np.float32), patch_size**2)) for a in (mean, std)
    )
    offset, scale = by_pixel
    return (x * scale + offset).clamp(min=0)


def split_indices(count: int, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Numbers of the `size` images drawn to validate on, and of the others."""
    if not 0 < size < count:
        raise ValueError(
            f"val_size is {size}: expected 1 to {count - 1}, as there are {count} images to train "
            "and validate on."
        )
    order = torch.from_numpy(np.random.default_rng(seed).permutation(count))
    return order[:size], order[size:]


def stratified_subset(labels: Tensor, fraction: float, seed: int) -> Tensor:
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
    """Mean and deviation of each channel, [C], over some images; deviation 1 if constant.

    Raises ValueError for numbers that are not finite.
    """
    if isinstance(images, Tensor):
        pixels = images[:10_000].transpose(0, 1).flatten(1).double()  # enough for a mean
    else:
        # From all over: those of a folder come class by class.
        chosen = np.linspace(0, len(images) - 1, min(len(images), 200)).round().astype(int)
        pixels = torch.cat([images[i].flatten(1).double() for i in chosen.tolist()], dim=1)
    mean, std = pixels.mean(1), pixels.std(1)
    if not torch.isfinite(mean).all():
        raise ValueError("the images hold numbers that are not finite: mend them.")
    # A constant image set has deviation 0, and would turn into NaN.
    return mean.numpy(), torch.where(std > 0, std, 1.0).numpy()


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
