"""Preference losses against values computed by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import tensor

from graphformer.tasks.post_training.losses.preference import (
    dpo_loss,
    hinge_loss,
    ipo_loss,
    kto_kl,
    kto_loss,
    orpo_loss,
    simpo_loss,
)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_dpo() -> None:
    losses = dpo_loss(tensor([0.0, 10.0, 20.0]), beta=0.1)
    assert losses.tolist() == pytest.approx([0.693147, 0.313262, 0.126928], abs=1e-6)
    smooth = dpo_loss(tensor([10.0]), beta=0.1, label_smoothing=0.25)
    assert smooth.item() == pytest.approx(0.75 * 0.313262 + 0.25 * 1.313262, abs=1e-6)


def test_hinge_and_ipo() -> None:
    assert hinge_loss(tensor([-3.0, 4.0, 13.0]), beta=0.1).tolist() == pytest.approx([1.3, 0.6, 0])
    # the target of beta 0.1 is 5
    assert ipo_loss(tensor([2.0, 5.0]), beta=0.1).tolist() == pytest.approx([9.0, 0.0])


def test_simpo_and_orpo() -> None:
    chosen, rejected = tensor([-0.5]), tensor([-1.25])
    loss = simpo_loss(chosen, rejected, beta=2.0, target_margin=0.7)
    assert loss.item() == pytest.approx(-math.log(sigmoid(2 * 0.75 - 0.7)))
    odds = [math.exp(x) / (1 - math.exp(x)) for x in (-0.5, -1.25)]
    expected = 0.5 - 0.3 * math.log(sigmoid(math.log(odds[0] / odds[1])))
    assert orpo_loss(chosen, rejected, beta=0.3).item() == pytest.approx(expected)


def test_orpo_of_certain_answers_is_finite() -> None:
    chosen = tensor([0.0, -1e-9, -200.0], requires_grad=True)
    loss = orpo_loss(chosen, tensor([-1.0, 0.0, -1e-9]), beta=0.1)
    loss.sum().backward()
    assert loss.isfinite().all()
    assert chosen.grad.isfinite().all()


def test_kto() -> None:
    loss = kto_loss(
        tensor([3.0, 3.0]), tensor([True, False]), tensor(1.0),
        beta=0.5, desirable_weight=1.0, undesirable_weight=1.5,
    )  # fmt: skip
    assert loss.tolist() == pytest.approx([1 - sigmoid(1.0), 1.5 * (1 - sigmoid(-1.0))])
    assert kto_kl(tensor([1.0, 3.0])).item() == 2.0
    assert kto_kl(tensor([1.0, -3.0])).item() == 0.0
    assert not kto_kl(torch.ones(2, requires_grad=True)).requires_grad
    with pytest.raises(ValueError, match="batch: got 1 answer, expected 2 or more"):
        kto_kl(tensor([1.0]))
