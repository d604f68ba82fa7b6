"""Class labels: what is counted, and what is refused."""

from __future__ import annotations

import pytest
import torch

from graphformer.data.graph.labels import count_classes


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([0, 1, 1], 2),
        ([2, 0], 3),
        ([-100, 1, 0], 2),
        ([0.5, -3.0], 0),
        ([[0, 1, 1], [1, -100, 1]], 3),
        ([[0.5, 7.0], [2.0, 1.0]], 2),
    ],
)
def test_classes_are_counted(labels: list[float], expected: int) -> None:
    assert count_classes("toy", torch.tensor(labels)) == expected


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, -1], "toy: got the label -1, expected classes from 0, or -100"),
        ([0, 0], "toy: got 1 class in 2 labels, expected 2 or more"),
        ([-100, -100], "toy: got 0 class in 0 labels"),
        ([[0, 1], [1, 2]], r"toy: got labels y of shape \(2, 2\) with the value 2, expected 0"),
        ([[0], [1]], r"toy: got labels y of shape \(2, 1\), expected one class"),
    ],
)
def test_labels_that_are_no_classes_are_refused(labels: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        count_classes("toy", torch.tensor(labels))
