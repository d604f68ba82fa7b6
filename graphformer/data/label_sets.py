"""Labels of samples: several of them in a cell of a table, and classes of equal frequency."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from graphformer.batch_type import IGNORE_INDEX


def sort_labels(labels: set[str]) -> list[str]:
    """Return names of classes sorted as numbers if all are, else as text."""
    return sorted(labels, key=int) if all(map(str.isdigit, labels)) else sorted(labels)


def labels_of(text: str, separator: str | None) -> list[str]:
    """Return the labels of a cell such as "a;b", none of an empty one; without separator itself."""
    if separator is None:
        return [text]
    return [part.strip() for part in text.split(separator) if part.strip()]


def label_numbers(
    texts: Sequence[str], names: Sequence[str], separator: str | None, source: object
) -> Tensor:
    """Return the classes of samples, int64 [n]; or 0 and 1 for each label, int64 [n, K].

    Args:
        texts: the class of each sample, or its labels.
        names: of the K classes.
        separator: between labels; None for one class a sample.
        source: the file, for messages.

    Raises:
        ValueError: when a label is not among the names.
    """
    sets = [labels_of(text, separator) for text in texts]
    numbers = {name: number for number, name in enumerate(names)}
    unknown = sorted({label for labels in sets for label in labels} - numbers.keys())
    if unknown:
        raise ValueError(
            f"{source}: got the labels {unknown}, expected those of the run, {list(names)}; rename "
            "or remove them"
        )
    if separator is None:
        return torch.tensor([numbers[label] for (label,) in sets], dtype=torch.int64)
    hot = torch.zeros(len(sets), len(names), dtype=torch.int64)
    for row, labels in enumerate(sets):
        hot[row, [numbers[label] for label in labels]] = 1
    return hot


def oversampled(y: Tensor, seed: int) -> Tensor:
    """Return indices of samples with those of rarer classes repeated, until all are as frequent.

    A class of m samples, of which the most frequent one has n, comes n // m times, and a random
    choice of n % m samples once more. Samples without a label come once.

    Args:
        y: class of each sample, int64 [B].
        seed: of the choice.

    Raises:
        ValueError: when samples have no single class.
    """
    if y.ndim != 1 or y.is_floating_point():
        raise ValueError(
            f"balanced: got labels of shape {tuple(y.shape)} and {y.dtype}, expected one class a "
            "sample; leave it out, or use class_weights of the task"
        )
    generator = np.random.default_rng((seed, 3))
    labels = y.numpy()
    members = [np.flatnonzero(labels == k) for k in np.unique(labels) if k != IGNORE_INDEX]
    most = max(map(len, members), default=0)
    chosen = [np.flatnonzero(labels == IGNORE_INDEX)]
    for own in members:
        rest = generator.permutation(own)[: most % len(own)]
        chosen += [np.tile(own, most // len(own)), rest]
    return torch.from_numpy(np.sort(np.concatenate(chosen)))
