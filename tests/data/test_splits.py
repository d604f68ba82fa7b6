"""Validation and test samples drawn from the training samples, at random and by class."""

from __future__ import annotations

from collections import Counter
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphformer.data.splits import split_samples, split_stratified

FRACTIONS = st.floats(0, 0.49)
SAMPLES = list(range(41))
LABELS = [0] * 23 + [1] * 11 + [2] * 5 + [3] * 2


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


def counts(split: list[int]) -> list[int]:
    found = Counter(LABELS[sample] for sample in split)
    return [found[label] for label in range(4)]


@pytest.mark.parametrize("seed", [0, 1])
def test_each_class_has_its_share_of_every_split(seed: int) -> None:
    splits = split_stratified({"train": SAMPLES}, LABELS, (0.2, 0.3), seed)
    sizes = {name: len(split) for name, split in splits.items()}
    random = split_samples({"train": SAMPLES}, (0.2, 0.3), seed)
    assert sizes == {name: len(split) for name, split in random.items()}
    for name, fraction in (("val", 0.2), ("test", 0.3)):
        expected = [fraction * LABELS.count(label) for label in range(4)]
        assert all(abs(n - q) < 1 for n, q in zip(counts(splits[name]), expected, strict=True))
    assert min(counts(splits["train"])) >= 1
    assert sorted(chain.from_iterable(splits.values())) == SAMPLES
    assert all(split == sorted(split) for split in splits.values())


def test_the_stratified_choice_depends_on_the_seed_alone() -> None:
    first, again, other = (
        split_stratified({"train": SAMPLES}, LABELS, (0.2, 0.3), seed) for seed in (0, 0, 1)
    )
    assert first == again
    assert first["val"] != other["val"]


def test_a_sample_of_each_class_stays_to_train_on() -> None:
    labels = [0, 0, 1, 1, 2, 2]
    splits = split_stratified({"train": list("abcdef")}, labels, (0.25, 0.25), 0)
    assert [len(splits[name]) for name in ("train", "val", "test")] == [2, 2, 2]
    splits = split_stratified({"train": list("abcdef")}, labels, (0.2, 0.2), 0)
    assert {"abcdef".index(sample) // 2 for sample in splits["train"]} == {0, 1, 2}


def test_classes_of_one_sample_are_split_nevertheless() -> None:
    splits = split_stratified({"train": list("abcde")}, [0, 1, 2, 3, 4], (0.2, 0.2), 0)
    assert [len(splits[name]) for name in ("train", "val", "test")] == [3, 1, 1]


def test_splits_that_exist_are_kept_by_class() -> None:
    given = {"train": SAMPLES, "val": [101], "test": [103]}
    assert split_stratified(given, LABELS, (0.5, 0.9), 0) == given
    drawn = split_stratified({"train": SAMPLES, "val": [101]}, LABELS, (0.9, 0.0), 0)
    assert (drawn["val"], drawn["test"]) == ([101], [])
    with pytest.raises(ValueError, match="val_fraction and test_fraction: got"):
        split_stratified({"train": SAMPLES}, LABELS, (0.5, 0.5), 0)
