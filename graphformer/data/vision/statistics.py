"""Mean and standard deviation of pixels by channel, and the scaling that they undo."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

MAX_IMAGES = 10_000
"""Images of one tensor that are read for the statistics."""
MAX_FILES = 200
"""Images of a sequence, which are decoded one by one, that are read for the statistics."""
CHUNK = 2**21
"""Pixels that are converted to double precision at once."""


def pixel_statistics(images: Tensor | Sequence[Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and standard deviation of each channel over some of the images, [C] each.

    The standard deviation of a constant channel is replaced by 1. Memory is bounded by one image,
    or by `CHUNK` pixels of a tensor.

    Args:
        images: [B, C, height, width], or a sequence of [C, height, width].

    Raises:
        ValueError: when a pixel is not finite.
    """
    count, mean, squares = 0, torch.zeros(1).double(), torch.zeros(1).double()
    for pixels in _pixels(images):
        # Chan et al., 1983: combine the mean and the sum of squared deviations of two parts.
        added, part_mean = pixels.shape[1], pixels.mean(1)
        part_squares = (pixels - part_mean[:, None]).square().sum(1)
        delta = part_mean - mean
        total = count + added
        mean = mean + delta * added / total
        squares = squares + part_squares + delta.square() * (count * added / total)
        count = total
    if not torch.isfinite(mean).all():
        raise ValueError(
            "images: got pixels that are not finite, expected finite ones; replace them, or leave "
            "these images out"
        )
    std = (squares / max(count - 1, 1)).sqrt()
    return mean.numpy(), torch.where(std > 0, std, 1.0).numpy()


def _pixels(images: Tensor | Sequence[Tensor]) -> Iterator[Tensor]:
    """Parts of the pixels as double precision, [C, pixels] each."""
    if isinstance(images, Tensor):
        per_image = max(1, images[0, 0].numel())
        for part in images[:MAX_IMAGES].split(max(1, CHUNK // (per_image * images.shape[1]))):
            yield part.transpose(0, 1).flatten(1).double()
        return
    # Evenly over the sequence: files of a folder are in the order of their classes.
    count = min(len(images), MAX_FILES)
    for i in np.linspace(0, len(images) - 1, count).round().astype(int).tolist():
        yield images[i].flatten(1).double()


def denormalize(x: Tensor, mean: np.ndarray, std: np.ndarray, patch_size: int) -> Tensor:
    """Undo the scaling of patches: x * std + mean, at least 0.

    Args:
        x: patches [..., C * patch_size**2].
        mean, std: of each channel, [C].
        patch_size: side of a patch.
    """
    offset, scale = (
        torch.from_numpy(np.repeat(np.asarray(a, np.float32), patch_size**2)) for a in (mean, std)
    )
    return (x * scale + offset).clamp(min=0)
