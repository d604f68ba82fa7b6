"""`collect_outputs`: what a trained task returns for the labelled rows of a split, or images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from graphformer.batch_type import IGNORE_INDEX, BatchLike
from graphformer.data.audio.base import Spectrograms
from graphformer.data.base import DataModule
from graphformer.data.batch import pack_images
from graphformer.data.vision.base import PatchImages
from graphformer.tasks import Classification, Regression


class Outputs(NamedTuple):
    """Outputs and labels of the labelled rows of a split, in the order of its batches."""

    output: Tensor
    """Logits [B, K] of a classification, predictions [B, T] of a regression; float32."""
    y: Tensor
    """Classes [B], or targets [B, T]."""


def split_batches(
    data: DataModule, split: str, *, max_batches: int | None = None
) -> Iterator[BatchLike]:
    """Yield the batches of a split, those of "train" without augmentation."""
    loader = data.batches(split)
    if hasattr(loader.dataset, "augmentation"):
        loader.dataset.augmentation = None
    yield from islice(loader, max_batches)


def drawn_samples(count: int, most: int, *, seed: int) -> list[int]:
    """Return the numbers of up to `most` of `count` samples, drawn at random, ascending.

    The first samples of a split may all be of one class, as in files with one class after another.
    """
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    numbers: list[int] = order[:most].sort().values.tolist()
    return numbers


@torch.no_grad()
def collect_outputs(
    task: Classification | Regression,
    data: DataModule,
    split: str,
    *,
    max_batches: int | None = None,
) -> Outputs:
    """Return outputs and labels of a split in evaluation mode, without rows that lack a label.

    Args:
        task: trained; it is set to evaluation mode.
        data: after `setup`.
        split: "train", "val" or "test".
        max_batches: maximum number of batches to read.

    Raises:
        ValueError: when the split has no labelled row.
    """
    task.eval()
    pairs = [
        labelled(*task.labelled_outputs(batch, split))
        for batch in split_batches(data, split, max_batches=max_batches)
    ]
    if not sum(len(y) for _, y in pairs):
        raise ValueError(f"split: got {split!r}, expected one with labels; choose other data")
    outputs, labels = zip(*pairs, strict=True)
    return Outputs(torch.cat(outputs), torch.cat(labels))


def labelled(output: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows of an output whose label is not `IGNORE_INDEX`."""
    if y.is_floating_point():
        return output, y
    return output[y != IGNORE_INDEX], y[y != IGNORE_INDEX]


def has_one_size(data: PatchImages) -> bool:
    """Whether the data are images of one size, not videos or spectrograms."""
    images = data.splits["test"][0]
    return isinstance(images, Tensor) and images.ndim == 4 and not isinstance(data, Spectrograms)


def image_logits(task: Classification, data: PatchImages) -> Callable[[Tensor], Tensor]:
    """Return the function from pixels from 0 to 1, [B, C, height, width], to logits."""
    mean, std = (
        torch.as_tensor(value, dtype=torch.float32)[:, None, None]
        for value in (data.mean, data.std)
    )

    def logits(pixels: Tensor) -> Tensor:
        output: Tensor = task(pack_images((pixels * data.max_value - mean) / std, data.patch_size))
        return output

    return logits
