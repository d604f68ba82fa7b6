"""Weights of classes in the loss: given as numbers, or "balanced" by the training labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from graphformer.batch_type import IGNORE_INDEX
from graphformer.data.base import DataModule

ClassWeights = Sequence[float] | Literal["balanced"]


def given_weights(weights: ClassWeights | None, num_classes: int) -> Tensor | None:
    """Return numbers as a tensor [K]; None without weights, or if the data define them.

    Raises:
        ValueError: when they are not K finite numbers of 0 or more, some of them positive.
    """
    if weights is None or weights == "balanced":
        return None
    if isinstance(weights, str):
        raise ValueError(f"class_weights: got {weights!r}, expected 'balanced' or numbers")
    found = torch.tensor([float(weight) for weight in weights])
    if len(found) != num_classes:
        raise ValueError(
            f"class_weights: got {len(found)} numbers for {num_classes} classes, expected one for "
            "each, in the order of the classes"
        )
    if not (torch.isfinite(found).all() and (found >= 0).all() and found.any()):
        raise ValueError(
            f"class_weights: got {list(weights)}, expected finite numbers of 0 or more, some of "
            "them above 0"
        )
    return found


def training_labels(data: Any) -> Tensor:
    """Return the labels of the training split, [rows] or [rows, K], for "balanced".

    Raises:
        ValueError: when the trainer has no data module of graphformer.
    """
    if not isinstance(data, DataModule):
        raise ValueError(
            f"class_weights: got 'balanced' with {type(data).__name__}, expected a data module of "
            "graphformer, whose labels are counted; give numbers instead"
        )
    return data.train_labels()


def balanced_weights(y: Tensor, num_classes: int) -> Tensor:
    """Return n / (K n_k) for each class, [K]: all classes have the same total weight.

    K counts the classes that occur; the weight of one that does not is 1.

    Args:
        y: classes of the training split, int64 [n]; -100 for none.
        num_classes: number of classes.

    Source: King and Zeng, 2001; scikit-learn's `class_weight="balanced"`.
    """
    counts = torch.bincount(y[y != IGNORE_INDEX], minlength=num_classes).double()
    weights = counts.sum() / (counts.count_nonzero() * counts)
    return torch.where(counts > 0, weights, 1.0).float()


def positive_weights(y: Tensor) -> Tensor:
    """Return negatives / positives of each label, [K]; 1 for a label without one of both.

    Args:
        y: labels of the training split, [n, K]: 1, 0, or below 0 for a missing label.
    """
    positive, negative = (y == 1).sum(0).double(), (y == 0).sum(0).double()
    return torch.where((positive > 0) & (negative > 0), negative / positive, 1.0).float()
