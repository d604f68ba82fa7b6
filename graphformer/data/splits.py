"""Split samples into train, val and test."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

_Sample = TypeVar("_Sample")


def split_samples(
    splits: dict[str, list[_Sample]], fractions: tuple[float, float], seed: int
) -> dict[str, list[_Sample]]:
    """Complete the splits 'train', 'val' and 'test' by samples from 'train', by chance but seeded.

    A split with a fraction gets a sample at least, if there are enough to leave one to train on.

    Args:
        splits: the splits that there are; 'train' must be.
        fractions: of 'train' for the validation and the test split, where they lack.
        seed: of the choice.

    Raises:
        ValueError: the fractions leave nothing to train on.
    """
    samples = splits["train"]
    lacking = [split for split in ("val", "test") if split not in splits]
    share = {
        split: f for split, f in zip(("val", "test"), fractions, strict=True) if split in lacking
    }
    if min([0.0, *share.values()]) < 0 or sum(share.values()) >= 1:
        raise ValueError(
            f"val_fraction {fractions[0]} and test_fraction {fractions[1]} leave no samples to "
            "train on: expected 0 or more, and a sum below 1."
        )
    order = np.random.default_rng(seed).permutation(len(samples))
    divided, begin = dict(splits), 0
    for split, fraction in share.items():
        least = int(fraction > 0 and len(samples) > len(share))
        end = begin + max(least, round(fraction * len(samples)))
        divided[split] = [samples[i] for i in np.sort(order[begin:end])]
        begin = end
    return {**divided, "train": [samples[i] for i in np.sort(order[begin:])]}
