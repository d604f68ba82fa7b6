"""pass@k against counting, extraction strict and flexible."""

from __future__ import annotations

from itertools import combinations

import pytest

from graphformer.tasks.text.pass_at_k import (
    NUMBER,
    evaluate_samples,
    is_correct,
    pass_at_k,
    same_number,
)


@pytest.mark.parametrize("k", [1, 2, 3, 5])
@pytest.mark.parametrize("correct", [0, 1, 3, 5])
def test_all_subsets_are_counted(correct: int, k: int) -> None:
    right = [True] * correct + [False] * (5 - correct)
    subsets = list(combinations(right, k))
    assert pass_at_k(5, correct, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


def test_samples_of_several_questions() -> None:
    samples = [["#### 4", "1"], ["4", "#### 2"], ["no", "#### 2"]]
    strict = evaluate_samples(samples, ["#### 4", "#### 2"], [1, 2], extract=r"#### (-?\d+)")
    assert strict == {"pass@1": pytest.approx((1 / 3 + 2 / 3) / 2), "pass@2": pytest.approx(5 / 6)}
    flexible = evaluate_samples(samples, ["#### 4", "#### 2"], [1], extract=NUMBER)
    assert flexible["pass@1"] == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="pass_at: got 4, expected 1 to 3"):
        evaluate_samples(samples, ["#### 4", "#### 2"], [4])


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("so 1,234 apples.", "#### 1234", True),
        ("It costs $3.50", "3.50", True),
        ("-5 degrees", "#### 5", False),
        ("first 3, then 7", "7", True),
        ("none", "7", False),
    ],
)
def test_the_last_number(answer: str, reference: str, expected: bool) -> None:
    assert is_correct(answer, reference, NUMBER) is expected


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("It costs $18.00.", "#### 18", True),
        ("1,050 apples", "1050", True),
        ("10-4", "#### 4", True),
        ("10-4", "#### -4", False),
        ("x = -4", "#### 4", False),
        ("1.5", "15", False),
        ("none", "none", False),
    ],
)
def test_numbers_are_compared_by_value(answer: str, reference: str, expected: bool) -> None:
    assert same_number(answer, reference) is expected
