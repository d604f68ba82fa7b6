"""Brier score, reliability and temperature, against scikit-learn, torchmetrics and calculus."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.trust import random_split
from sklearn.metrics import brier_score_loss
from torch.nn import functional as F
from torchmetrics.functional.classification import multiclass_calibration_error

from graphformer.trust import brier_score, fit_temperature, reliability


def test_brier_score_by_hand():
    probabilities = torch.tensor([[0.7, 0.2, 0.1], [0.0, 1.0, 0.0]])
    expected = ((0.3**2 + 0.2**2 + 0.1**2) + (1 + 1)) / 2
    assert brier_score(probabilities, torch.tensor([0, 2])).item() == pytest.approx(expected)


def test_brier_score_is_that_of_sklearn():
    logits, y = random_split(101, 5, 0)
    p = logits.double().softmax(1)
    expected = brier_score_loss(y.numpy(), p.numpy(), scale_by_half=False, labels=range(5))
    assert brier_score(p, y).item() == pytest.approx(expected)


@pytest.mark.parametrize("bins", [7, 15])
def test_the_bins_add_up_to_the_calibration_error(bins: int):
    logits, y = random_split(211, 5, 1, scale=2.0)
    p = logits.softmax(1)
    found = reliability(p, y, bins=bins)
    gap = (found.samples / 211 * (found.accuracy - found.confidence).abs()).sum().item()
    expected = multiclass_calibration_error(p, y, num_classes=5, n_bins=bins, norm="l1")
    assert gap == pytest.approx(expected.item(), abs=1e-6)
    assert found.samples.sum() == 211


def test_certain_predictions_are_in_the_last_bin():
    found = reliability(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 1]))
    assert [part.tolist() for part in found] == [[1.0], [0.5], [2]]


def test_the_cross_entropy_is_stationary_at_the_temperature():
    logits, y = random_split(307, 3, 2, scale=3.0)
    log_t = torch.tensor(math.log(fit_temperature(logits, y)), requires_grad=True)
    F.cross_entropy(logits.double() / log_t.exp(), y).backward()
    assert log_t.grad.abs() < 1e-5


def test_the_temperature_scales_with_the_logits():
    logits, y = random_split(307, 3, 3)
    ratio = fit_temperature(5 * logits, y) / fit_temperature(logits, y)
    assert ratio == pytest.approx(5, rel=1e-4)


def test_diverged_logits_are_refused():
    with pytest.raises(ValueError, match="logits: got shape"):
        fit_temperature(torch.tensor([[math.nan, 0.0]]), torch.tensor([0]))
