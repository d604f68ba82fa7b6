"""The base classes of image data: `ScaledImages`, and `PatchImages` with labels."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor

from graphformer.batch_type import Batch
from graphformer.data.base import DataModule
from graphformer.data.checks import check_channels, check_patch_size, check_split
from graphformer.data.label_sets import oversampled
from graphformer.data.loader import BatchLoader, BatchSampler
from graphformer.data.vision.augment import Augmentation
from graphformer.data.vision.files import as_pixels
from graphformer.data.vision.samples import ImageSamples, PatchSamples, common_size, select_images
from graphformer.data.vision.statistics import denormalize, pixel_statistics
from graphformer.deprecated import renamed_keywords
from graphformer.nn.patches import check_divides

ImagesAndLabels = tuple[Any, Tensor]
"""Images, [B, C, height, width] or a sequence of [C, height, width], and labels [B]."""


class ScaledImages(DataModule):
    """Images that are scaled by the mean and standard deviation of the training images.

    Both are part of a run's checkpoint, so that other data of a run is scaled as in training.

    Args:
        patch_size: side of a patch in pixels.
        augment: transforms of training images, see `graphformer.data.vision.augment.Augmentation`.
        seed: of the splits, the order and the augmentation.

    Attributes (after `setup`):
        channels: of the images, C.
        num_features: width of a flattened patch, C * patch_size**2.
        shape: rows and columns of patches if all training images have one size, else None.
        mean, std: of each channel, [C].
        max_value: the value of the brightest pixel.

    Raises:
        ValueError: when patch_size is below 1, or a transform is unknown.
    """

    channels: int
    num_features: int
    shape: tuple[int, int] | None
    max_value: float = 255.0

    def __init__(self, *, patch_size: int, augment: Sequence[str], seed: int) -> None:
        super().__init__()
        check_patch_size(patch_size)
        self.patch_size, self.seed = patch_size, seed
        self.augmentation = Augmentation(augment, seed) if augment else None
        self.mean = self.std = np.zeros(0)

    def measure(self, images: Tensor | Sequence[Tensor]) -> None:
        """Set the attributes from the training images; a checkpoint's mean and std are kept."""
        if not len(self.mean):
            self.mean, self.std = pixel_statistics(images)
        self.channels = len(self.mean)
        self.num_features = self.channels * self.patch_size**2
        self.shape = None
        size = common_size(images)
        if size is not None:
            check_divides(self.patch_size, size)
            self.shape = (size[0] // self.patch_size, size[1] // self.patch_size)

    def scaled_samples(
        self, split: str, images: Tensor | Sequence[Tensor], labels: Tensor
    ) -> PatchSamples:
        """Return images of a split as samples, augmented if they are of "train"."""
        augmentation = self.augmentation if split == "train" else None
        return ImageSamples(images, labels, self.patch_size, self.mean, self.std, augmentation)

    def pack(self, inputs: Sequence[Any]) -> Batch:
        """Return images as a batch of patches, resized or cropped and scaled as in training.

        Args:
            inputs: paths, Pillow images, or arrays [C, height, width] with the pixel values of the
                training images.

        Raises:
            RuntimeError: before `setup`, without a checkpoint's state.
            ValueError: when a file cannot be read, or an image is smaller than a patch.
        """
        if not len(self.mean):
            raise RuntimeError(f"{type(self).__name__} has no statistics yet; call setup() first")
        images = [
            as_pixels(
                image,
                channels=len(self.mean),
                size=getattr(self, "size", None),
                multiple=self.patch_size,
                max_value=self.max_value,
            )
            for image in inputs
        ]
        samples = self.scaled_samples("test", images, torch.zeros(len(images)))
        batch = samples[torch.arange(len(images))]
        del batch.y
        return batch

    def pixels(self, x: Tensor) -> Tensor:
        """Return patches of a batch, [..., C * patch_size**2], as pixel values from 0 to 1."""
        return denormalize(x, self.mean, self.std, self.patch_size) / self.max_value

    def state_dict(self) -> dict[str, Any]:
        """Return the mean and standard deviation, for a checkpoint."""
        state = super().state_dict()
        if not len(self.mean):
            return state
        return {**state, "mean": self.mean.tolist(), "std": self.std.tolist()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the mean and standard deviation of a checkpoint.

        Raises:
            ValueError: when the images that are set up have another number of channels.
        """
        super().load_state_dict(state_dict)
        if "mean" not in state_dict:
            return
        mean, std = np.array(state_dict["mean"]), np.array(state_dict["std"])
        if len(self.mean) not in (0, len(mean)):
            raise ValueError(
                f"images: got {len(self.mean)} channels, expected the {len(mean)} of the run"
            )
        self.mean, self.std = mean, std


class PatchImagesOptions(TypedDict, total=False):
    """Keyword arguments of `PatchImages`, which describes them, but for the sizes."""

    augment: Sequence[str]
    label_fraction: float
    balanced: bool
    num_workers: int
    seed: int


class PatchImages(ScaledImages):
    """Labelled images whose patches are nodes; see `ImageSamples` for the fields of a batch.

    Training batches are shuffled by (seed, epoch).

    Args:
        patch_size, augment, seed: of `ScaledImages`.
        batch_size: images per batch.
        val_size: number of validation images, drawn from the training images if `read` returns no
            validation split.
        label_fraction: share of the training images that is used, the same in every class.
        balanced: whether training images of rarer classes are repeated, until all are as frequent.
        num_workers: number of processes that make batches.

    Attributes (after `setup`):
        splits: images and labels of each split.
        num_classes: one more than the largest label, or the number of labels of each image.

    Raises:
        ValueError: when label_fraction is not in (0, 1].
    """

    num_classes: int

    def __init__(
        self,
        *,
        patch_size: int,
        batch_size: int,
        val_size: int,
        augment: Sequence[str] = (),
        label_fraction: float = 1.0,
        balanced: bool = False,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(patch_size=patch_size, augment=augment, seed=seed)
        if not 0 < label_fraction <= 1:
            raise ValueError(f"label_fraction: got {label_fraction}, expected a share in (0, 1]")
        self.batch_size, self.val_size, self.balanced = batch_size, val_size, balanced
        self.label_fraction, self.num_workers = label_fraction, num_workers
        self.splits: dict[str, ImagesAndLabels] = {}

    @abstractmethod
    def read(self) -> dict[str, ImagesAndLabels]:
        """Return images and labels of the splits "train", "test" and possibly "val"."""

    def setup(self, stage: str | None = None) -> None:
        """Read the images, draw the validation split and compute the statistics, once."""
        if self.splits:
            return
        splits = dict(self.read())
        for split, (images, labels) in splits.items():
            check_split(split, images, labels)
        images, labels = splits["train"]
        if "val" not in splits:
            val, train = split_indices(len(labels), self.val_size, self.seed)
            splits["val"] = (select_images(images, val), labels[val])
            images, labels = select_images(images, train), labels[train]
        subset = stratified_subset(labels, self.label_fraction, self.seed)
        splits["train"] = (select_images(images, subset), labels[subset])
        self.num_classes = int(max(labels.max() for _, labels in splits.values())) + 1
        if labels.ndim == 2:
            self.num_classes = labels.shape[1]
        self.measure(splits["train"][0])
        check_channels(self.channels, {split: images for split, (images, _) in splits.items()})
        self.splits = splits

    def train_labels(self) -> Tensor:
        """Return the classes of the training images, [B], without reading the images."""
        return self.splits["train"][1]

    def samples(self, split: str) -> PatchSamples:
        """Return the samples of "train" (augmented), "val" or "test"."""
        images, labels = self.splits[split]
        if self.balanced and split == "train":
            chosen = oversampled(labels, self.seed)
            images, labels = select_images(images, chosen), labels[chosen]
        return self.scaled_samples(split, images, labels)

    @renamed_keywords(part="split")
    def batches(self, split: str) -> BatchLoader:
        """Return the batches of "train" (shuffled), "val" or "test"."""
        samples, shuffle = self.samples(split), split == "train"
        sampler = BatchSampler(len(samples), self.batch_size, shuffle=shuffle, seed=self.seed)
        return BatchLoader(samples, sampler, num_workers=self.num_workers)


def split_indices(count: int, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return the indices of `size` validation images drawn from `count`, and of the others.

    Raises:
        ValueError: when one of both would be empty.
    """
    if not 0 < size < count:
        raise ValueError(
            f"val_size: got {size}, expected 1 to {count - 1} of {count} training images"
        )
    order = torch.from_numpy(np.random.default_rng(seed).permutation(count))
    return order[:size], order[size:]


def stratified_subset(labels: Tensor, fraction: float, seed: int) -> Tensor:
    """Return the indices of a random share of each class, ascending; at least one per class.

    Args:
        labels: [B].
        fraction: share, above 0 and up to 1.
        seed: of the choice.
    """
    if fraction == 1:
        return torch.arange(len(labels))
    if labels.ndim == 2:  # several labels an image: all images are one class
        labels = torch.zeros(len(labels), dtype=torch.int64)
    generator = np.random.default_rng((seed, 2))
    chosen = []
    for label in labels.unique().tolist():
        members = np.flatnonzero(labels.numpy() == label)
        chosen.append(generator.permutation(members)[: max(1, round(fraction * len(members)))])
    return torch.from_numpy(np.sort(np.concatenate(chosen)))
