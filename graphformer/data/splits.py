"""Split samples into train, val and test."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

_Sample = TypeVar("_Sample")


def divide(
    parts: dict[str, list[_Sample]], fractions: tuple[float, float], seed: int
) -> dict[str, list[_Sample]]:
    """Complete the parts 'train', 'val' and 'test' by samples from 'train', by chance but seeded.

    A part with a fraction gets a sample at least, if there are enough to leave one to train on.

    Args:
        parts: the parts that there are; 'train' must be.
        fractions: of 'train' for the validation and the test part, where they lack.
        seed: of the choice.

    Raises:
        ValueError: the fractions leave nothing to train on.
    """
    samples = parts["train"]
    lacking = [part for part in ("val", "test") if part not in parts]
    share = {part: f for part, f in zip(("val", "test"), fractions, strict=True) if part in lacking}
    if min([0.0, *share.values()]) < 0 or sum(share.values()) >= 1:
        raise ValueError(
            f"val_fraction {fractions[0]} and test_fraction {fractions[1]} leave no samples to "
            "train on: expected 0 or more, and a sum below 1."
        )
    order = np.random.default_rng(seed).permutation(len(samples))
    divided, begin = dict(parts), 0
    for part, fraction in share.items():
        least = int(fraction > 0 and len(samples) > len(share))
        end = begin + max(least, round(fraction * len(samples)))
        divided[part] = [samples[i] for i in np.sort(order[begin:end])]
        begin = end
    return {**divided, "train": [samples[i] for i in np.sort(order[begin:])]}
