"""RandAugment: two random transforms of each image, of one strength."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

NUM_TRANSFORMS = 2
LEVELS = 10
"""The strongest level."""
_GEOMETRIC = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
_COLOURS = ("brightness", "contrast", "sharpness", "posterize", "solarize", "autocontrast")
_MAX_ROTATION, _MAX_SHEAR, _MAX_SHIFT, _MAX_FACTOR = math.radians(30), 0.3, 0.33, 0.9


def rand_augment(images: Tensor, generator: np.random.Generator, level: float) -> Tensor:
    """Apply two random transforms to each image, geometric or of its colours.

    Colours are changed on the scale from each image's darkest to its brightest pixel. Regions that
    a geometric transform moves in are 0, the mean of scaled pixels.

    Args:
        images: scaled, [B, C, height, width].
        generator: draws the transforms and their signs.
        level: strength, 0 to 10.

    Source: Cubuk et al., 2020 (RandAugment), with the transforms that need no colour model.
    """
    names = np.array((*_GEOMETRIC, *_COLOURS, "identity"))
    chosen = generator.choice(names, (NUM_TRANSFORMS, len(images)))
    signs = generator.choice((-1.0, 1.0), (NUM_TRANSFORMS, len(images)))
    for step in range(NUM_TRANSFORMS):
        images = _warp(images, chosen[step], signs[step] * level / LEVELS)
        images = _recolour(images, chosen[step], signs[step] * level / LEVELS)
    return images


def _warp(images: Tensor, names: np.ndarray, strength: np.ndarray) -> Tensor:
    """Return images with one affine map each; the identity for other names."""
    moved = np.isin(names, _GEOMETRIC)
    if not moved.any():
        return images
    maps = np.stack(
        [_affine(name, s) for name, s in zip(names[moved], strength[moved], strict=True)]
    )
    rows = torch.from_numpy(np.flatnonzero(moved))
    part = images[rows]
    grid = F.affine_grid(torch.from_numpy(maps).to(images.dtype), list(part.shape), False)
    result = images.clone()
    result[rows] = F.grid_sample(part, grid, mode="bilinear", align_corners=False)
    return result


def _affine(name: str, strength: float) -> np.ndarray:
    """Return the map [2, 3] from target to source coordinates, both -1 to 1."""
    theta = np.eye(2, 3)
    if name == "rotate":
        angle = strength * _MAX_ROTATION
        theta[:, :2] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    elif name.startswith("shear"):
        theta[(0, 1) if name == "shear_x" else (1, 0)] = strength * _MAX_SHEAR
    else:
        theta[0 if name == "translate_x" else 1, 2] = 2 * strength * _MAX_SHIFT
    return theta


def _recolour(images: Tensor, names: np.ndarray, strength: np.ndarray) -> Tensor:
    """Return images with changed colours where a name is one of colours."""
    rows = np.flatnonzero(np.isin(names, _COLOURS))
    if not len(rows):
        return images
    result = images.clone()
    for row in rows:
        image = images[row]
        low, high = image.amin(), image.amax()
        unit = (image - low) / (high - low).clamp(min=1e-6)
        changed = _recoloured(unit, str(names[row]), float(strength[row]))
        result[row] = changed.clamp(0, 1) * (high - low) + low
    return result


def _recoloured(unit: Tensor, name: str, strength: float) -> Tensor:
    """Return an image [C, height, width] of values from 0 to 1 after one transform."""
    factor = 1 + _MAX_FACTOR * strength
    if name == "brightness":
        return unit * factor
    if name == "contrast":
        return (unit - unit.mean()) * factor + unit.mean()
    if name == "sharpness":
        smooth = F.avg_pool2d(F.pad(unit[None], (1, 1, 1, 1), "replicate"), 3, 1)[0]
        return smooth + (unit - smooth) * factor
    if name == "posterize":
        steps = 2 ** (8 - round(4 * abs(strength))) - 1
        return (unit * steps).round() / steps
    if name == "solarize":
        return torch.where(unit > 1 - abs(strength), 1 - unit, unit)
    low, high = unit.amin((1, 2), keepdim=True), unit.amax((1, 2), keepdim=True)  # autocontrast
    return (unit - low) / (high - low).clamp(min=1e-6)
