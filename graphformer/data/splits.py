"""Validation and test samples drawn from the training samples, at random or by class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

_Sample = TypeVar("_Sample")


def split_samples(
    splits: dict[str, list[_Sample]], fractions: tuple[float, float], seed: int
) -> dict[str, list[_Sample]]:
    """Return the splits "train", "val" and "test", the missing ones drawn from "train".

    A split with a positive fraction receives at least one sample, if "train" has enough of them.
    The order of the samples is kept.

    Args:
        splits: the splits that exist, "train" among them.
        fractions: of "train" that become "val" and "test"; ignored for splits that exist.
        seed: of the random choice.

    Raises:
        ValueError: when a fraction is negative, or when their sum is 1 or more.
    """
    samples = splits["train"]
    missing = _missing(splits, fractions)
    order = np.random.default_rng(seed).permutation(len(samples))
    result, begin = dict(splits), 0
    for split, fraction in missing.items():
        end = begin + _size(len(samples), fraction, len(missing))
        result[split] = [samples[i] for i in np.sort(order[begin:end])]
        begin = end
    return {**result, "train": [samples[i] for i in np.sort(order[begin:])]}


def split_stratified(
    splits: dict[str, list[_Sample]],
    labels: Sequence[int],
    fractions: tuple[float, float],
    seed: int,
) -> dict[str, list[_Sample]]:
    """Return the splits as `split_samples` does, with the same share of each class.

    The sizes are those of `split_samples`. Shares that are no whole numbers are rounded by their
    largest remainders, and a sample of each class is left to train on where that is possible.

    Args:
        splits: the splits that exist, "train" among them.
        labels: the class of each sample of "train".
        fractions: of "train" that become "val" and "test"; ignored for splits that exist.
        seed: of the random choice.

    Raises:
        ValueError: when a fraction is negative, or when their sum is 1 or more.
    """
    samples = splits["train"]
    missing = _missing(splits, fractions)
    if not missing or not samples:
        return dict(splits)
    generator = np.random.default_rng(seed)
    classes = np.asarray(labels)
    members = [generator.permutation(np.flatnonzero(classes == c)) for c in np.unique(classes)]
    sizes, taken = np.array([len(rows) for rows in members]), np.zeros(len(members), np.int64)
    result = dict(splits)
    for split, fraction in missing.items():
        total = _size(len(samples), fraction, len(missing))
        counts = _apportion(fraction * sizes, sizes - taken, total, generator)
        chosen = [rows[t : t + n] for rows, t, n in zip(members, taken, counts, strict=True)]
        result[split] = [samples[i] for i in np.sort(np.concatenate(chosen))]
        taken = taken + counts
    rest = np.concatenate([rows[t:] for rows, t in zip(members, taken, strict=True)])
    return {**result, "train": [samples[i] for i in np.sort(rest)]}


def _apportion(
    quota: np.ndarray, available: np.ndarray, total: int, generator: np.random.Generator
) -> np.ndarray:
    """How many samples each class gives, `total` in all; ties are broken at random."""
    room = np.maximum(available - 1, 0)
    counts = np.minimum(np.floor(quota).astype(np.int64), room)
    priority = generator.permutation(len(quota))
    while counts.sum() < total and (counts < available).any():
        order = np.lexsort((priority, quota - counts, counts < room, counts < available))
        counts[order[-1]] += 1
    return counts


def _missing(splits: dict[str, list[_Sample]], fractions: tuple[float, float]) -> dict[str, float]:
    """The fraction of each split that does not exist."""
    named = zip(("val", "test"), fractions, strict=True)
    missing = {split: fraction for split, fraction in named if split not in splits}
    if not all(fraction >= 0 for fraction in missing.values()) or not sum(missing.values()) < 1:
        raise ValueError(
            f"val_fraction and test_fraction: got {fractions[0]} and {fractions[1]}, expected 0 or "
            "more with a sum below 1, so that samples to train on are left"
        )
    return missing


def _size(count: int, fraction: float, num_missing: int) -> int:
    """The size of a split: at least 1 for a positive fraction, if there are enough samples."""
    return max(int(fraction > 0 and count > num_missing), round(fraction * count))
