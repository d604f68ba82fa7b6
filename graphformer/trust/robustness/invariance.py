"""Changes of an input that keep its meaning: rewritten texts, moved images, renumbered nodes."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from graphformer.batch_type import BatchLike

_FULL_FORMS: Mapping[str, str] = {
    r"\bca ?n't\b": "can not",
    r"\bwo ?n't\b": "will not",
    r" ?n't\b": " not",
    r" ?'re\b": " are",
    r" ?'ve\b": " have",
    r" ?'ll\b": " will",
    r" ?'m\b": " am",
}


def written_out(text: str) -> str:
    """Return a text with the full forms of English contractions, such as "do not" for "don't".

    Forms with apostrophe and s are left, because they may be possessive.
    """
    for short, full in _FULL_FORMS.items():
        text = re.sub(short, full, text, flags=re.IGNORECASE)
    return text


def respaced(text: str) -> str:
    """Return a text with two blanks for each blank."""
    return text.replace(" ", "  ")


TEXT_CHANGES: Mapping[str, Callable[[str], str]] = {
    "lower case": str.lower,
    "two blanks for one": respaced,
    "contractions written out": written_out,
}


def shifted(images: Tensor, down: int, right: int) -> Tensor:
    """Return images [B, C, height, width] moved by pixels; the border is repeated."""
    height, width = images.shape[2:]
    rows = (torch.arange(height) - down).clamp(0, height - 1)
    columns = (torch.arange(width) - right).clamp(0, width - 1)
    return images[:, :, rows][..., columns]


def rotated(images: Tensor, degrees: float) -> Tensor:
    """Return images [B, C, height, width] turned about their centre; the border is repeated."""
    angle = math.radians(degrees)
    cos, sin = math.cos(angle), math.sin(angle)
    ratio = images.shape[3] / images.shape[2]
    matrix = torch.tensor([[cos, -sin / ratio, 0.0], [sin * ratio, cos, 0.0]])
    grid = F.affine_grid(matrix.expand(len(images), 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


IMAGE_CHANGES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "one pixel down": lambda images: shifted(images, 1, 0),
    "one pixel right": lambda images: shifted(images, 0, 1),
    "turned by 5 degrees": lambda images: rotated(images, 5.0),
    "brighter by 5 %": lambda images: (1.05 * images).clamp(0, 1),
}
"""Of pixels from 0 to 1."""
MIRROR = "mirrored"
"""Name of the change of images that keeps the meaning if training mirrors them as well."""

_NODE_FIELDS = (
    "x", "pos", "node_type", "node_time", "token_types", "virtual_mask", "laplacian_pe",
    "random_walk_pe", "in_degree", "out_degree", "train_mask", "val_mask", "test_mask",
)  # fmt: skip


def renumbered(batch: BatchLike, order: Tensor) -> BatchLike:
    """Return a batch whose node i is node `order[i]` of the given one; edges keep their order.

    Args:
        batch: graphs.
        order: permutation of the nodes within each graph, int64 [N].
    """
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order))
    other = copy.copy(batch)
    for name in batch.keys():  # noqa: SIM118 (a batch is no mapping)
        value = batch[name]
        if name in _NODE_FIELDS:
            other[name] = (value.to_dense() if name == "x" else value)[order]
        elif isinstance(value, Tensor) and name.endswith("index"):
            other[name] = place[value.long()].to(value.dtype)
    return other
