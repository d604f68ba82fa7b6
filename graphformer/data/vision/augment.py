"""Random changes of images in plain torch, by a list of names such as ["crop:2", "flip"]."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

Change = Callable[[Tensor, np.random.Generator], Tensor]  # images [B, C, height, width], the same


def flip(images: Tensor, generator: np.random.Generator) -> Tensor:
    """Mirror every other image, left to right."""
    chosen = torch.from_numpy(generator.random(len(images)) < 0.5)
    return torch.where(chosen[:, None, None, None], images.flip(-1), images)


def crop(images: Tensor, generator: np.random.Generator, padding: int) -> Tensor:
    """Pad each image by zeros, which is the mean, and cut one of its size out at random.

    Source: He et al., 2016 ("Deep residual learning"), section 4.2.
    """
    b, _, height, width = images.shape
    padded = F.pad(images, (padding,) * 4)
    top, left = (torch.from_numpy(generator.integers(2 * padding + 1, size=b)) for _ in range(2))
    rows = top[:, None] + torch.arange(height)
    columns = left[:, None] + torch.arange(width)
    sample = torch.arange(b)
    # One gather for all of them: advanced indices put the channels last.
    cut = padded[sample[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return cut.permute(0, 3, 1, 2)


def erase(images: Tensor, generator: np.random.Generator, rate: float) -> Tensor:
    """Put noise into a rectangle of each image, with probability `rate`.

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
    """Mix each image with another of the batch: the images, the others' numbers, the own share.

    Source: Zhang et al., 2018.
    """
    share = float(generator.beta(alpha, alpha))
    other = torch.from_numpy(generator.permutation(len(images)))
    return share * images + (1 - share) * images[other], other, share


class Augmentation:
    """Changes by their names: "flip", "crop:PADDING", "erase:RATE" and "mixup:ALPHA".

    The chance depends on the seed and on which images are in the batch alone, so that a run that
    is resumed sees what it would have seen.

    Args:
        names: in the order in which they are applied; mixup is always last.
        seed: of the chance.

    Raises:
        ValueError: naming a change that is not known, or its number.
    """

    def __init__(self, names: Sequence[str], seed: int = 0) -> None:
        self.seed = seed
        self.changes: list[Change] = []
        self.alpha: float | None = None
        for name in names:
            kind, _, number = name.partition(":")
            if kind == "flip" and not number:
                self.changes.append(flip)
            elif kind == "crop":
                self.changes.append(partial(crop, padding=int(_number(name, number, 1, 1e6))))
            elif kind == "erase":
                self.changes.append(partial(erase, rate=_number(name, number, 0, 1)))
            elif kind == "mixup":
                self.alpha = _number(name, number, 1e-6, 1e6)
            else:
                raise ValueError(
                    f"augment names {name!r}: expected 'flip', 'crop:PADDING', 'erase:RATE' or "
                    "'mixup:ALPHA'."
                )

    def generator(self, index: np.ndarray) -> np.random.Generator:
        """The chance for the images of these numbers."""
        return np.random.default_rng((self.seed, zlib.crc32(index.tobytes())))

    def __call__(self, images: Tensor, generator: np.random.Generator) -> Tensor:
        """Change images [B, C, height, width] of one size."""
        for change in self.changes:
            images = change(images, generator)
        return images


def _number(name: str, text: str, least: float, most: float) -> float:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not least <= number <= most:
        raise ValueError(f"augment names {name!r}: expected a number from {least:g} to {most:g}.")
    return number
