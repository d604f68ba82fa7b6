"""Preference losses by name: which formula, which quantities, which settings."""

from __future__ import annotations

import math

import pytest
import torch

from graphformer.tasks.post_training.losses.by_name import PreferenceLoss

POLICY = torch.tensor([[-1.0, -2.5], [-3.0, -0.5]])
RATIOS = torch.tensor([[0.4, -0.8], [-0.6, 0.2]])  # margins 1.2 and -0.8; less 0.1 for "kto"


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


def log_odds(x: float) -> float:
    return x - math.log(1 - math.exp(x))


EXPECTED = {  # beta 0.7
    "sigmoid": [-log_sigmoid(0.84), -log_sigmoid(-0.56)],
    "length_normalized": [-log_sigmoid(0.84), -log_sigmoid(-0.56)],
    "hinge": [0.16, 1.56],
    "ipo": [(1.2 - 1 / 1.4) ** 2, (0.8 + 1 / 1.4) ** 2],
    "simpo": [-log_sigmoid(0.7 * 1.5 - 0.5), -log_sigmoid(-0.7 * 2.5 - 0.5)],
    "orpo": [
        1 - 0.7 * log_sigmoid(log_odds(-1) - log_odds(-2.5)),
        3 - 0.7 * log_sigmoid(log_odds(-3) - log_odds(-0.5)),
    ],
    "kto": [
        1 - 1 / (1 + math.exp(-0.7 * x)) for x in (0.4 - 0.1, 0.1 + 0.8, -0.6 - 0.1, 0.1 - 0.2)
    ],
}


@pytest.mark.parametrize("name", EXPECTED)
def test_values(name: str) -> None:
    loss = PreferenceLoss(name, 0.7)
    assert loss(POLICY, RATIOS, torch.tensor(0.1)).tolist() == pytest.approx(EXPECTED[name])
    assert loss.needs_reference == (name not in ("simpo", "orpo"))
    assert loss.is_per_token == (name in ("ipo", "length_normalized", "simpo", "orpo"))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("cdpo", {"beta": 1.0}, "loss: got 'cdpo', expected one of sigmoid, hinge, ipo"),
        ("sigmoid", {"beta": 0.0}, "beta: got 0.0, expected a number above 0"),
        ("sigmoid", {"beta": math.nan}, "beta: got nan, expected a number above 0"),
        ("sigmoid", {"beta": 1.0, "label_smoothing": 0.7}, "label_smoothing: got 0.7, expected a"),
        ("ipo", {"beta": 1.0, "label_smoothing": 0.1}, "label_smoothing: got 0.1 for loss 'ipo'"),
        ("orpo", {"beta": 1.0, "target_margin": 0.1}, "target_margin: got 0.1 for loss 'orpo'"),
    ],
)
def test_wrong_settings(name: str, settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PreferenceLoss(name, **settings)
