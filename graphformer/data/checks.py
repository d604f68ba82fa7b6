"""What no training could put right is said before it begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data

_FLOATS = ("x", "edge_attr", "edge_weight", "y")


def check_finite(name: str, graph: Data) -> None:
    """Refuse features, edge values and targets that are NaN or infinite.

    Raises:
        ValueError: naming the data, the attribute and the first row that has one.
    """
    for attribute in _FLOATS:
        value = getattr(graph, attribute, None)
        if not isinstance(value, Tensor) or not value.is_floating_point():
            continue
        # A sum is NaN or infinite if a part is, and costs no second tensor; it may also overflow.
        if torch.isfinite(value.double().sum() if value.numel() < 1e6 else value.sum()):
            continue
        wrong = (~torch.isfinite(value)).reshape(len(value), -1).any(1).nonzero().flatten()
        if len(wrong):
            raise ValueError(
                f"{name}: {attribute} has NaN or infinite values in {len(wrong)} of {len(value)} "
                f"rows, first in row {int(wrong[0])}: fill them in, or leave these rows out."
            )


def one_of(argument: str, value: str, names: list[str]) -> str:
    """The one of `names` that `value` is, in upper or lower case.

    Raises:
        ValueError: it is none of them.
    """
    found = [name for name in names if name.lower() == value.lower()]
    if not found:
        raise ValueError(f"{argument} is {value!r}: expected one of {', '.join(names)}.")
    return found[0]


def check_patch_size(patch_size: int) -> None:
    """Raise ValueError for a side below 1."""
    if patch_size < 1:
        raise ValueError(f"patch_size is {patch_size}: expected 1 or more.")


def check_split(split: str, images: Sequence[Any] | Tensor, labels: Tensor) -> None:
    """Raise ValueError for a split without images, or whose labels are not a class for each."""
    check_not_empty(split, images)
    if labels.shape != (len(images),):
        raise ValueError(
            f"the split {split!r} has {len(images)} images, but labels of shape "
            f"{tuple(labels.shape)}: each image needs one."
        )
    if labels.min() < 0:
        raise ValueError(
            f"the split {split!r} has the label {int(labels.min())}: classes are numbered from 0."
        )


def check_not_empty(split: str, images: Sequence[Any] | Tensor) -> None:
    """Raise ValueError for a split without images."""
    if not len(images):
        raise ValueError(
            f"there are no images in the split {split!r}: add some, or choose sizes or fractions "
            "that leave it some."
        )


def check_channels(count: int, **splits: Sequence[Any] | Tensor) -> None:
    """Raise ValueError naming a split whose images have other than `count` channels."""
    for split, images in splits.items():
        if isinstance(images, Tensor) and images.shape[1] != count:
            raise ValueError(
                f"the images of the split {split!r} have {images.shape[1]} channels, but those to "
                f"train on {count}: give all of them as many."
            )
