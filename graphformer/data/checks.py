"""Input validation before training: finite values, known names, labels and channels of images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data

_FLOATS = ("x", "edge_attr", "edge_weight", "y")


def check_finite(name: str, graph: Data) -> None:
    """Check that features, edge values and targets are finite.

    Args:
        name: of the data, for the message.
        graph: its fields x, edge_attr, edge_weight and y are checked, where they are floats.

    Raises:
        ValueError: when a value is NaN or infinite; the message names the field and the first row.
    """
    for attribute in _FLOATS:
        value = getattr(graph, attribute, None)
        if not isinstance(value, Tensor) or not value.is_floating_point():
            continue
        # The sum of a tensor with a NaN or infinite entry is NaN or infinite, and needs no second
        # tensor. It may also overflow, so the entries decide.
        if torch.isfinite(value.double().sum() if value.numel() < 1e6 else value.sum()):
            continue
        wrong = (~torch.isfinite(value)).reshape(len(value), -1).any(1).nonzero().flatten()
        if len(wrong):
            raise ValueError(
                f"{name}: {attribute} has NaN or infinite values in {len(wrong)} of {len(value)} "
                f"rows, first in row {int(wrong[0])}; fill them in, or remove these rows"
            )


def one_of(argument: str, value: str, names: list[str]) -> str:
    """Return the entry of `names` that equals `value` up to upper and lower case.

    Raises:
        ValueError: when there is none; the message begins with `argument`.
    """
    found = [name for name in names if name.lower() == value.lower()]
    if not found:
        raise ValueError(f"{argument}: got {value!r}, expected one of {', '.join(names)}")
    return found[0]


def check_patch_size(patch_size: int) -> None:
    """Check that the side of a patch is positive.

    Raises:
        ValueError: when it is below 1.
    """
    if patch_size < 1:
        raise ValueError(f"patch_size: got {patch_size}, expected 1 or more")


def check_split(split: str, images: Sequence[Any] | Tensor, labels: Tensor) -> None:
    """Check that a split has images, and a class for each of them, or K labels of 0 and 1.

    Raises:
        ValueError: when there are no images, or when labels are not B classes counted from 0, or
            [B, K] of 0 and 1.
    """
    check_not_empty(split, images)
    if labels.ndim not in (1, 2) or len(labels) != len(images):
        raise ValueError(
            f"labels: got shape {tuple(labels.shape)} for {len(images)} images of the split "
            f"{split!r}, expected one label for each image"
        )
    if labels.ndim == 2 and labels.max() > 1:
        raise ValueError(
            f"labels: got shape {tuple(labels.shape)} with {int(labels.max())} in the split "
            f"{split!r}, expected one class for each image, [B], or labels of 0 and 1, [B, K]"
        )
    if labels.min() < 0:
        raise ValueError(
            f"labels: got {int(labels.min())} in the split {split!r}, expected classes numbered "
            "from 0"
        )


def check_not_empty(split: str, images: Sequence[Any] | Tensor) -> None:
    """Check that a split has images.

    Raises:
        ValueError: when it has none.
    """
    if not len(images):
        raise ValueError(
            f"images: got no images in the split {split!r}, expected one or more; add files, or "
            "choose sizes or fractions that leave it some"
        )


def check_channels(count: int, images: dict[str, Sequence[Any] | Tensor]) -> None:
    """Check that the images of all splits have `count` channels, where they are one tensor.

    Raises:
        ValueError: when they have another number; the message names the split.
    """
    for split, tensor in images.items():
        if isinstance(tensor, Tensor) and tensor.shape[1] != count:
            raise ValueError(
                f"images: got {tensor.shape[1]} channels in the split {split!r}, expected {count} "
                "as in the training split; convert all images to the same number"
            )
