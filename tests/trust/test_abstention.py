"""Conformal thresholds and risk by coverage, by hand and by counting."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graphformer.trust import class_scores, conformal_threshold, prediction_sets, risk_coverage


def test_thresholds_by_hand():
    scores = torch.arange(1.0, 10.0)  # 9 scores: k = ceil(10 * 0.9) = 9
    assert conformal_threshold(scores.flip(0), 0.1) == 9.0
    assert conformal_threshold(scores, 0.2) == 8.0
    assert conformal_threshold(scores[:8], 0.1) == math.inf  # k = ceil(8.1) = 9


@given(st.integers(1, 40), st.sampled_from([0.05, 0.1, 0.25, 0.5]))
def test_each_sample_as_the_new_one_is_covered_as_often_as_promised(n: int, alpha: float):
    scores = torch.arange(float(n + 1))
    covered = 0
    for new in range(n + 1):
        rest = torch.cat([scores[:new], scores[new + 1 :]])
        covered += scores[new].item() <= conformal_threshold(rest, alpha)
    assert covered / (n + 1) >= 1 - alpha - 1e-12


def test_sets_contain_the_classes_whose_score_is_small():
    p = torch.tensor([[0.6, 0.3, 0.1], [0.34, 0.33, 0.33]])
    assert prediction_sets(p, 0.7).tolist() == [[True, True, False], [True, True, True]]
    assert torch.allclose(class_scores(p, torch.tensor([1, 0])), torch.tensor([0.7, 0.66]))
    assert prediction_sets(p, math.inf).all()


def test_risk_by_hand():
    p = torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.8, 0.2]])
    coverage, risk = risk_coverage(p, torch.tensor([0, 0, 1]))
    assert coverage.tolist() == pytest.approx([1 / 3, 2 / 3, 1])
    assert risk.tolist() == pytest.approx([0, 1 / 2, 2 / 3])


def test_a_rate_out_of_range_is_refused():
    with pytest.raises(ValueError, match="alpha: got 1"):
        conformal_threshold(torch.ones(3), 1.0)
