"""Images as samples that are read by batches of patches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from graphformer.batch_type import Batch
from graphformer.data.batch import pack_images
from graphformer.data.vision.augment import Augmentation
from graphformer.deprecated import renamed_function
from graphformer.nn.patches import patchify


class PatchSamples(Protocol):
    """Images or videos that are read by batches of patches."""

    def __len__(self) -> int: ...

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, on which random numbers may depend."""

    def __getitem__(self, index: Tensor) -> Batch: ...


class ImageSamples:
    """Images of one or several sizes; a batch is scaled, augmented and cut into patches.

    `samples[index]`, for an index tensor [B], is a batch with x [N, C * patch_size**2], pos
    [N, 2], lengths, shapes and y [B]; after mixup or cutmix also with y_other [B] and share.

    Args:
        images: [B, C, height, width], or a sequence of [C, height, width].
        labels: [B], or [B, K].
        patch_size: side of a patch; divides all heights and widths.
        mean, std: of each channel, [C]; pixels are scaled to (pixel - mean) / std.
        augmentation: of training images.

    Raises:
        ValueError: when the images are one tensor that patch_size does not divide.
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
        # In numpy: torch's threads cost more than they gain in a batch, most of all on busy cores.
        self.images = images.numpy() if isinstance(images, Tensor) else images
        self.labels, self.patch_size = labels.long(), patch_size
        self.mean, self.std = (np.asarray(a, np.float32)[:, None, None] for a in (mean, std))
        self.augmentation = augmentation
        self.epoch = 0
        if isinstance(images, Tensor):
            patchify(images[:1], patch_size)  # raises if patch_size does not divide the sides

    def __len__(self) -> int:
        return len(self.labels)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, on which the random numbers of the augmentation depend."""
        self.epoch = epoch

    def __getitem__(self, index: Tensor) -> Batch:
        groups, order = self._scaled_groups(index.numpy())
        mixed: dict[str, Any] = {}
        if self.augmentation is not None:
            generator = self.augmentation.generator(index.numpy(), self.epoch)
            groups = [self.augmentation(group, generator) for group in groups]
            if self.augmentation.mixers and len(groups) > 1:
                raise ValueError(
                    f"augment: got 'mixup' for images of {len(groups)} sizes, expected one; "
                    "set size, or leave mixup and cutmix out"
                )
            mixture = self.augmentation.mix(groups[0], generator)
            if mixture is not None:
                groups[0], other, share = mixture
                mixed = {"y_other": self.labels[index][other], "share": share}
        batch = pack_groups(groups, order, self.patch_size)
        batch.y = self.labels[index]
        batch.update(mixed)
        return batch

    def _scaled_groups(self, index: np.ndarray) -> tuple[list[Tensor], list[list[int]]]:
        """The images [b, C, height, width] of each size, and their positions in the batch."""
        if isinstance(self.images, np.ndarray):
            return [self._scale(self.images[index])], [list(range(len(index)))]
        images = [self.images[int(i)].numpy() for i in index]
        order: dict[tuple[int, ...], list[int]] = {}
        for position, image in enumerate(images):
            order.setdefault(image.shape, []).append(position)
        groups = [self._scale(np.stack([images[i] for i in group])) for group in order.values()]
        return groups, list(order.values())

    def _scale(self, images: np.ndarray) -> Tensor:
        scaled = images.astype(np.float32)
        scaled -= self.mean
        scaled /= self.std
        return torch.from_numpy(scaled)


def pack_groups(groups: Sequence[Tensor], order: Sequence[Sequence[int]], patch_size: int) -> Batch:
    """Pack images of several sizes into one batch of patches, see `pack_images`.

    Args:
        groups: images [b, C, height, width] of one size each.
        order: positions of each group's images in the batch.
        patch_size: side of a patch.
    """
    return pack_images(_in_order(groups, order), patch_size)


pack = renamed_function("pack", pack_groups)


def _in_order(groups: Sequence[Tensor], order: Sequence[Sequence[int]]) -> Tensor | list[Tensor]:
    """The images of all groups in the order of the batch; one tensor if they have one size."""
    if len(groups) == 1:
        return groups[0]
    positions = [position for group in order for position in group]
    images = dict(zip(positions, (image for group in groups for image in group), strict=True))
    return [images[i] for i in range(len(images))]


class Subset(Sequence[Tensor]):
    """Some images of a sequence, read when they are accessed."""

    def __init__(self, images: Sequence[Tensor], index: Tensor) -> None:
        self.images, self.rows = images, index.tolist()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: Any) -> Any:
        return self.images[self.rows[i]]


def select_images(images: Tensor | Sequence[Tensor], index: Tensor) -> Tensor | Sequence[Tensor]:
    """Return the images of an index tensor, without reading those of a sequence."""
    return images[index] if isinstance(images, Tensor) else Subset(images, index)


def common_size(images: Tensor | Sequence[Tensor]) -> tuple[int, int] | None:
    """Return the height and width of all images, or None if they may differ."""
    if isinstance(images, Tensor):
        return images.shape[2], images.shape[3]
    source = images.images if isinstance(images, Subset) else images
    return getattr(source, "size", None)
