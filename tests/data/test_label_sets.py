"""Labels of cells, and classes of equal frequency."""

from __future__ import annotations

import pytest
import torch

from graphformer.data.label_sets import label_numbers, labels_of, oversampled, sort_labels


def test_cells_become_classes_or_label_sets() -> None:
    names = sort_labels({"b", "a", "c"})
    assert names == ["a", "b", "c"]
    assert sort_labels({"10", "9"}) == ["9", "10"]
    assert label_numbers(["c", "a"], names, None, "x.csv").tolist() == [2, 0]
    hot = label_numbers(["c; a", "", "b;"], names, ";", "x.csv")
    assert hot.tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    assert labels_of("a;b", None) == ["a;b"]
    with pytest.raises(ValueError, match=r"x.csv: got the labels \['d'\], expected those"):
        label_numbers(["a;d"], names, ";", "x.csv")


def test_rarer_classes_are_repeated_until_all_are_as_frequent() -> None:
    y = torch.tensor([0] * 7 + [1] * 2 + [-100] + [4] * 3)
    index = oversampled(y, seed=0)
    assert torch.bincount(y[index][y[index] >= 0]).tolist() == [7, 7, 0, 0, 7]
    times = torch.bincount(index, minlength=len(y))
    assert times[:7].tolist() == [1] * 7
    assert sorted(times[7:9].tolist()) == [3, 4]
    assert times[9] == 1  # without a label
    assert set(times[10:].tolist()) == {2, 3}
    assert index.equal(oversampled(y, seed=0))
    assert not index.equal(oversampled(y, seed=1)) or not index.equal(oversampled(y, seed=2))


def test_label_sets_have_no_classes_to_balance() -> None:
    with pytest.raises(ValueError, match="balanced: got labels of shape"):
        oversampled(torch.zeros(5, 2, dtype=torch.int64), seed=0)
