"""Differences between groups of samples, and the group of each sample of a test split."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from graphformer.data import LabelledText
from graphformer.data.base import DataModule
from graphformer.trust.outputs import split_batches


def bootstrap_gap(
    values: np.ndarray, groups: np.ndarray, *, seed: int, draws: int = 1000
) -> tuple[float, float, float]:
    """Return the gap of a mean between groups, largest minus smallest, with a 95 % interval.

    The interval is the percentile interval of draws with replacement within each group. As a
    largest minus a smallest mean is never negative, its lower end is above 0 even without a gap;
    `permutation_p_value` tests for one.

    Args:
        values: one number for each sample, [B].
        groups: number of each sample's group, from 0, int [B].
        seed: of the draws.
        draws: number of them.
    """
    generator = np.random.default_rng(seed)
    members = [values[groups == group] for group in range(groups.max() + 1)]
    means = np.stack(
        [generator.choice(own, (draws, len(own))).mean(1) for own in members if len(own)]
    )
    gaps = means.max(0) - means.min(0)
    low, high = np.quantile(gaps, [0.025, 0.975])
    return mean_gap(values, groups), float(low), float(high)


def mean_gap(values: np.ndarray, groups: np.ndarray) -> float:
    """Return the largest minus the smallest mean of `values` [B] over the `groups` [B]."""
    count = np.bincount(groups)
    means = np.bincount(groups, values)[count > 0] / count[count > 0]
    return float(means.max() - means.min())


def permutation_p_value(
    values: np.ndarray, groups: np.ndarray, *, seed: int, draws: int = 1000
) -> float:
    """Return how often a random assignment to groups has a `mean_gap` as large as the real one."""
    generator = np.random.default_rng(seed)
    gap = mean_gap(values, groups) - 1e-12
    larger = sum(mean_gap(values, generator.permutation(groups)) >= gap for _ in range(draws))
    return (1 + larger) / (1 + draws)


def group_of_samples(
    data: DataModule, name: str, *, max_batches: int | None = None
) -> tuple[list[str], Tensor]:
    """Return the names of the groups, and the number of each test sample's group, int64 [B].

    The samples are in the order of the batches of the test split.

    Args:
        data: after `setup`.
        name: a column of the file of `LabelledText`, or a field of the batches with one value for
            each row of the output.
        max_batches: maximum number of batches to read.

    Raises:
        ValueError: when the data has no such column or field.
    """
    if isinstance(data, LabelledText):
        column = _text_column(data, name)
        index = [i for batch in data.batches("test").sampler for i in batch.tolist()]
        values: Sequence[object] = [column[i] for i in index]
    else:
        values = []
        for batch in split_batches(data, "test", max_batches=max_batches):
            if not isinstance(batch.get(name), Tensor):
                raise ValueError(
                    f"group: got {name!r}, expected a field of the batches, such as one of "
                    f"{', '.join(sorted(batch.keys()))}"
                )
            values = [*values, *batch[name].flatten().tolist()]
    names = sorted({str(value) for value in values})
    numbers = {group: i for i, group in enumerate(names)}
    return names, torch.tensor([numbers[str(value)] for value in values])


def _text_column(data: LabelledText, name: str) -> list[str]:
    """Return another column of the test samples; the splits of the same file are the same."""
    if data.classes is not None:
        raise ValueError("group: got a folder of texts by class, expected a table; convert it")
    other = copy.copy(data)
    other.label, other.splits, other._has_restored_labels = name, {}, False
    other.setup("test")
    texts = [[text for text, _ in each.splits["test"]] for each in (data, other)]
    if texts[0] != texts[1]:
        raise ValueError(f"group: got {name!r}, whose rows are not those of the test split")
    return [group for _, group in other.splits["test"]]
