"""Validation and test samples drawn from the training samples."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphformer.data.splits import split_samples

FRACTIONS = st.floats(0, 0.49)


@given(st.integers(0, 101), FRACTIONS, FRACTIONS, st.integers(0, 7))
def test_splits_are_disjoint_complete_and_in_order(
    count: int, val: float, test: float, seed: int
) -> None:
    samples = list(range(count))
    splits = split_samples({"train": samples}, (val, test), seed)
    assert sorted(row for rows in splits.values() for row in rows) == samples
    assert all(rows == sorted(rows) for rows in splits.values())
    assert splits == split_samples({"train": samples}, (val, test), seed)
    if count > 2:
        for name, fraction in (("val", val), ("test", test)):
            assert abs(len(splits[name]) - fraction * count) <= 1
            assert bool(splits[name]) == (fraction > 0)


def test_splits_that_exist_are_kept() -> None:
    splits = {"train": list(range(20)), "val": ["a"], "test": ["b", "c"]}
    assert split_samples(splits, (0.3, 0.9), 0) == splits
    drawn = split_samples({"train": list(range(20)), "test": [101]}, (0.25, 0.9), 3)
    assert drawn["test"] == [101]
    assert len(drawn["val"]) == 5
    assert drawn["val"] != split_samples({"train": list(range(20))}, (0.25, 0.0), 4)["val"]


@pytest.mark.parametrize(
    "fractions", [(0.5, 0.5), (1.0, 0.0), (-0.1, 0.2), (0.2, -0.1), (float("nan"), 0.1)]
)
def test_fractions_that_leave_no_training_samples(fractions: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="val_fraction and test_fraction: got"):
        split_samples({"train": [1, 2, 3]}, fractions, 0)
