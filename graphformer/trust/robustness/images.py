"""Corrupted and adversarial images, with pixel values from 0 to 1."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

SEVERITIES = (1, 2, 3, 4, 5)
_NOISE = (0.04, 0.08, 0.12, 0.18, 0.26)  # standard deviation
_BLUR = (0.5, 0.75, 1.0, 1.5, 2.0)  # standard deviation in pixels
_BRIGHTNESS = (0.1, 0.2, 0.3, 0.4, 0.5)  # added
_CONTRAST = (0.75, 0.6, 0.45, 0.3, 0.2)  # factor
_OCCLUSION = (0.15, 0.25, 0.35, 0.45, 0.55)  # side of a grey square by that of the image


def _noise(images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    return images + _NOISE[severity - 1] * torch.randn(images.shape, generator=generator)


def _blur(images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    sigma = _BLUR[severity - 1]
    radius = round(3 * sigma)
    offsets = torch.arange(-radius, radius + 1.0)
    kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(images.shape[1], 1, -1)
    padded = F.pad(images, (radius,) * 4, mode="replicate")
    rows = F.conv2d(padded, kernel.unsqueeze(2), groups=images.shape[1])
    return F.conv2d(rows, kernel.unsqueeze(3), groups=images.shape[1])


def _brightness(images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    return images + _BRIGHTNESS[severity - 1]


def _contrast(images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + _CONTRAST[severity - 1] * (images - mean)


def _occlusion(images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    height, width = images.shape[2:]
    share = _OCCLUSION[severity - 1]
    rows, columns = (max(round(share * side), 1) for side in (height, width))
    result = images.clone()
    for image in result:
        top = int(torch.randint(height - rows + 1, (), generator=generator))
        left = int(torch.randint(width - columns + 1, (), generator=generator))
        image[:, top : top + rows, left : left + columns] = 0.5
    return result


CORRUPTIONS: dict[str, Callable[[Tensor, int, torch.Generator], Tensor]] = {
    "noise": _noise,
    "blur": _blur,
    "brightness": _brightness,
    "contrast": _contrast,
    "occlusion": _occlusion,
}


def corrupt(images: Tensor, name: str, severity: int, *, generator: torch.Generator) -> Tensor:
    """Return images with a corruption, as float32.

    Args:
        images: from 0 to 1, [B, C, height, width].
        name: one of `CORRUPTIONS`.
        severity: 1 to 5.
        generator: of random corruptions.

    Raises:
        ValueError: when the name or the severity is unknown.

    Source: after Hendrycks and Dietterich, 2019, https://arxiv.org/abs/1903.12261.
    """
    if name not in CORRUPTIONS or severity not in SEVERITIES:
        raise ValueError(
            f"name and severity: got {name!r} and {severity}, expected one of "
            f"{', '.join(CORRUPTIONS)} and 1 to 5"
        )
    return CORRUPTIONS[name](images.float(), severity, generator).clamp(0, 1)


def pgd(
    loss: Callable[[Tensor], Tensor],
    images: Tensor,
    *,
    radius: float,
    steps: int = 10,
    generator: torch.Generator,
) -> Tensor:
    """Return images within a distance of the given ones that increase a loss.

    Args:
        loss: from images [B, C, height, width] to a number, a sum over images.
        images: from 0 to 1.
        radius: the largest change of a pixel.
        steps: number of steps of 2.5 * radius / steps along the sign of the gradient, from a random
            start.
        generator: of the start.

    Source: Madry et al., 2018, https://arxiv.org/abs/1706.06083.
    """
    start = 2 * torch.rand(images.shape, generator=generator) - 1
    adversarial = (images + radius * start).clamp(0, 1)
    for _ in range(steps):
        adversarial.requires_grad_(True)
        (gradient,) = torch.autograd.grad(loss(adversarial), adversarial)
        moved = adversarial.detach() + 2.5 * radius / steps * gradient.sign()
        adversarial = images + (moved - images).clamp(-radius, radius)
        adversarial = adversarial.clamp(0, 1)
    return adversarial.detach()
