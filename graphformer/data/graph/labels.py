"""Checks of class labels before training."""

from __future__ import annotations

from torch import Tensor

from graphformer.batch_type import IGNORE_INDEX


def count_classes(name: str, y: Tensor) -> int:
    """Return the number of classes K of labels 0 .. K - 1, int64 [n]; 0 for real-valued targets.

    For several labels or targets of a sample, [n, K], it is K. `IGNORE_INDEX` marks missing labels.

    Args:
        name: the data set, for messages.
        y: the labels.

    Raises:
        ValueError: when labels have several columns of other numbers than 0 and 1, are negative,
            or are all of one class.
    """
    if y.ndim == 2 and y.shape[1] > 1:
        _check_columns(name, y)
        return y.shape[1]
    if y.is_floating_point():
        return 0
    if y.ndim != 1:
        raise ValueError(
            f"{name}: got labels y of shape {tuple(y.shape)}, expected one class for each row, "
            "[n], or 0 and 1 for several labels, [n, K]; reshape them"
        )
    labels = y[y != IGNORE_INDEX]
    if len(labels) and int(labels.min()) < 0:
        raise ValueError(
            f"{name}: got the label {int(labels.min())}, expected classes from 0, or "
            f"{IGNORE_INDEX} for a missing label; renumber the classes"
        )
    num_classes = int(labels.max()) + 1 if len(labels) else 0
    if num_classes < 2:
        raise ValueError(
            f"{name}: got {num_classes} class in {len(labels)} labels, expected 2 or more; check "
            "the labels, or use the task Regression for real-valued targets"
        )
    return num_classes


def _check_columns(name: str, y: Tensor) -> None:
    """Check that integer labels of several columns, [n, K], are 0, 1 or below 0.

    Raises:
        ValueError: when one is above 1.
    """
    if not y.is_floating_point() and y.numel() and int(y.max()) > 1:
        raise ValueError(
            f"{name}: got labels y of shape {tuple(y.shape)} with the value {int(y.max())}, "
            "expected 0 and 1 in each column; for several targets convert them to floats and use "
            "the task Regression"
        )
