"""`split_samples`: validation and test samples drawn from the training samples."""

from __future__ import annotations

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
    named = zip(("val", "test"), fractions, strict=True)
    missing = {split: fraction for split, fraction in named if split not in splits}
    if not all(fraction >= 0 for fraction in missing.values()) or not sum(missing.values()) < 1:
        raise ValueError(
            f"val_fraction and test_fraction: got {fractions[0]} and {fractions[1]}, expected 0 or "
            "more with a sum below 1, so that samples to train on are left"
        )
    order = np.random.default_rng(seed).permutation(len(samples))
    result, begin = dict(splits), 0
    for split, fraction in missing.items():
        minimum = int(fraction > 0 and len(samples) > len(missing))
        end = begin + max(minimum, round(fraction * len(samples)))
        result[split] = [samples[i] for i in np.sort(order[begin:end])]
        begin = end
    return {**result, "train": [samples[i] for i in np.sort(order[begin:])]}
