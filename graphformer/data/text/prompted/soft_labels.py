"""Soft labels of texts: the probability of each class instead of a class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphformer.data.batch import Batch
from graphformer.data.io.tabular import get_field, get_text
from graphformer.data.ragged import Ragged


class SoftLabel(str):
    """The likeliest class of a text, with the probability of each class.

    Args:
        probabilities: by class; they add up to 1.
    """

    probabilities: dict[str, float]

    def __new__(cls, probabilities: dict[str, float]) -> SoftLabel:
        """Make a label that equals the name of its likeliest class."""
        label = super().__new__(cls, max(probabilities, key=probabilities.__getitem__))
        label.probabilities = probabilities
        return label


def get_label(record: dict[str, Any], name: str, path: Path, number: int) -> str:
    """Return a label of the record of a line: a text, or a `SoftLabel` where it is an object.

    Raises:
        ValueError: when there is no such field, or when the numbers of an object are not
            probabilities that add up to 1; the message names file and line.
    """
    value = get_field(record, name, path, number)
    if not isinstance(value, dict):
        return get_text(record, name, path, number)
    numbers = [p for p in value.values() if isinstance(p, int | float) and p >= 0]
    if not numbers or len(numbers) < len(value) or abs(sum(numbers) - 1) > 1e-3:
        raise ValueError(
            f"{path}, line {number}: {name!r} is {value}, expected probabilities by class that add "
            "up to 1; correct or remove the line"
        )
    return SoftLabel(value)


def label_classes(label: str) -> list[str]:
    """Return the classes that a label names: all with a probability, or the label itself."""
    return list(label.probabilities) if isinstance(label, SoftLabel) else [label]


def class_probabilities(labels: Sequence[str], names: Sequence[str]) -> Tensor | None:
    """Return the probability of each class for each label, [B, K]; None if no label is soft.

    Args:
        labels: classes and soft labels.
        names: of the K classes, which contain those of the labels.
    """
    if not any(isinstance(label, SoftLabel) for label in labels):
        return None
    table = torch.zeros(len(labels), len(names))
    for row, label in zip(table, labels, strict=True):
        known = label.probabilities if isinstance(label, SoftLabel) else {label: 1.0}
        for name, probability in known.items():
            row[names.index(name)] = probability
    return table


class SoftSamples(Ragged):
    """Texts with soft labels; a batch of them has also `class_probabilities` [B, K].

    Args:
        x: token ids of each text, [n].
        y: the likeliest class of each text.
        probabilities: of each class, [B, K].
    """

    def __init__(self, x: Sequence[np.ndarray], y: Sequence[int], probabilities: Tensor) -> None:
        super().__init__(x, y)
        self.probabilities = probabilities

    def __getitem__(self, index: Tensor) -> Batch:
        batch = super().__getitem__(index)
        batch.class_probabilities = self.probabilities[index]
        return batch
