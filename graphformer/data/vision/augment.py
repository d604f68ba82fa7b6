"""Random augmentation of images in plain torch, by a list of names such as ["crop:2", "flip"]."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from graphformer.data.vision.rand_augment import LEVELS, rand_augment

Transform = Callable[[Tensor, np.random.Generator], Tensor]
"""From images [B, C, height, width] to images of the same shape."""


def flip(images: Tensor, generator: np.random.Generator) -> Tensor:
    """Mirror each image left to right with probability 1/2."""
    chosen = torch.from_numpy(generator.random(len(images)) < 0.5)
    return torch.where(chosen[:, None, None, None], images.flip(-1), images)


def crop(images: Tensor, generator: np.random.Generator, padding: int) -> Tensor:
    """Pad each image by zeros, the mean of scaled pixels, and crop its size at a random position.

    Source: He et al., 2016 ("Deep residual learning"), section 4.2.
    """
    b, _, height, width = images.shape
    padded = F.pad(images, (padding,) * 4)
    top, left = (torch.from_numpy(generator.integers(2 * padding + 1, size=b)) for _ in range(2))
    rows = top[:, None] + torch.arange(height)
    columns = left[:, None] + torch.arange(width)
    sample = torch.arange(b)
    # One gather for all images; the advanced indices put the channels last.
    cropped = padded[sample[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return cropped.permute(0, 3, 1, 2)


def erase(images: Tensor, generator: np.random.Generator, rate: float) -> Tensor:
    """Replace a rectangle of each image by Gaussian noise, with probability `rate`.

    Source: Zhong et al., 2020, algorithm 1 (area 2 to 33 %, aspect 0.3 to 3.3).
    """
    images = images.clone()
    b, c, height, width = images.shape
    for i in np.flatnonzero(generator.random(b) < rate):
        area = generator.uniform(0.02, 1 / 3) * height * width
        aspect = np.exp(generator.uniform(np.log(0.3), np.log(3.3)))
        h = min(height, max(1, round(float(np.sqrt(area * aspect)))))
        w = min(width, max(1, round(float(np.sqrt(area / aspect)))))
        y, x = generator.integers(height - h + 1), generator.integers(width - w + 1)
        noise = torch.from_numpy(generator.standard_normal((c, h, w), dtype=np.float32))
        images[i, :, y : y + h, x : x + w] = noise
    return images


def mixup(
    images: Tensor, generator: np.random.Generator, alpha: float
) -> tuple[Tensor, Tensor, float]:
    """Mix each image with another one of the batch.

    Args:
        images: [B, C, height, width].
        generator: draws the share and the permutation.
        alpha: of the Beta distribution of the share.

    Returns:
        The mixed images, the index of the other image of each [B], and the share of the own one.

    Source: Zhang et al., 2018.
    """
    share = float(generator.beta(alpha, alpha))
    other = torch.from_numpy(generator.permutation(len(images)))
    return share * images + (1 - share) * images[other], other, share


def cutmix(
    images: Tensor, generator: np.random.Generator, alpha: float
) -> tuple[Tensor, Tensor, float]:
    """Replace a rectangle of each image by that of another one of the batch.

    Args:
        images: [B, C, height, width].
        generator: draws the rectangle, the same for all images, and the permutation.
        alpha: of the Beta distribution of the area that stays.

    Returns:
        The mixed images, the index of the other image of each [B], and the share of the own one.

    Source: Yun et al., 2019 (CutMix), section 3.1.
    """
    height, width = images.shape[2:]
    side = float(np.sqrt(1 - generator.beta(alpha, alpha)))
    h, w = round(side * height), round(side * width)
    y, x = int(generator.integers(height)), int(generator.integers(width))
    rows = slice(max(0, y - h // 2), min(height, y - h // 2 + h))
    columns = slice(max(0, x - w // 2), min(width, x - w // 2 + w))
    other = torch.from_numpy(generator.permutation(len(images)))
    mixed = images.clone()
    mixed[:, :, rows, columns] = images[other][:, :, rows, columns]
    replaced = len(range(*rows.indices(height))) * len(range(*columns.indices(width)))
    return mixed, other, 1 - replaced / (height * width)


Mixer = Callable[[Tensor, np.random.Generator], tuple[Tensor, Tensor, float]]
"""`mixup` or `cutmix` with its alpha."""
_MIXERS = {"mixup": mixup, "cutmix": cutmix}


class Augmentation:
    """Transforms by name: "flip", "crop:PADDING", "erase:RATE", "randaugment:LEVEL" (0 to 10).

    "mixup:ALPHA" and "cutmix:ALPHA" mix the images of a batch; with both, each batch draws one.

    The random numbers depend on the seed, the epoch and the images of the batch only, so that a
    resumed run repeats them.

    Args:
        names: in the order in which they are applied; mixup and cutmix are always last.
        seed: of the random numbers.

    Raises:
        ValueError: when a name is unknown, or its number is out of range.
    """

    def __init__(self, names: Sequence[str], seed: int = 0) -> None:
        self.seed = seed
        self.transforms: list[Transform] = []
        self.mixers: list[Mixer] = []
        for name in names:
            kind, _, number = name.partition(":")
            if kind == "flip" and not number:
                self.transforms.append(flip)
            elif kind == "crop":
                self.transforms.append(partial(crop, padding=int(_number(name, number, 1, 1e6))))
            elif kind == "erase":
                self.transforms.append(partial(erase, rate=_number(name, number, 0, 1)))
            elif kind == "randaugment":
                self.transforms.append(
                    partial(rand_augment, level=_number(name, number, 0, LEVELS))
                )
            elif kind in _MIXERS:
                self.mixers.append(partial(_MIXERS[kind], alpha=_number(name, number, 1e-6, 1e6)))
            else:
                raise ValueError(
                    f"augment: got {name!r}, expected 'flip', 'crop:PADDING', 'erase:RATE', "
                    "'randaugment:LEVEL', 'mixup:ALPHA' or 'cutmix:ALPHA'"
                )

    def generator(self, index: np.ndarray, epoch: int = 0) -> np.random.Generator:
        """Return the random numbers for a batch.

        Args:
            index: of the images, int64 [B].
            epoch: number of passes over the data before this one.
        """
        batch = (self.seed, zlib.crc32(index.tobytes()))
        return np.random.default_rng((*batch, epoch) if epoch else batch)

    def __call__(self, images: Tensor, generator: np.random.Generator) -> Tensor:
        """Transform images [B, C, height, width] of one size."""
        for transform in self.transforms:
            images = transform(images, generator)
        return images

    def mix(
        self, images: Tensor, generator: np.random.Generator
    ) -> tuple[Tensor, Tensor, float] | None:
        """Mix the images of a batch, see `mixup`; None without mixup and cutmix."""
        if not self.mixers:
            return None
        chosen = generator.integers(len(self.mixers)) if len(self.mixers) > 1 else 0
        return self.mixers[chosen](images, generator)


def _number(name: str, text: str, low: float, high: float) -> float:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not low <= number <= high:
        raise ValueError(f"augment: got {name!r}, expected a number from {low:g} to {high:g}")
    return number
