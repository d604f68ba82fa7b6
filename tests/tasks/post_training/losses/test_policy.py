"""Policy and value losses against values computed by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import tensor

from graphformer.tasks.post_training.losses.policy import clip_fraction, policy_loss, value_loss

LOG_RATIOS = [math.log(1.5), math.log(1.5), math.log(0.5), math.log(0.5)]
ADVANTAGES = tensor([2.0, -2.0, 2.0, -2.0])


def test_clipped_policy_loss() -> None:
    log_p = tensor(LOG_RATIOS, requires_grad=True)
    loss = policy_loss(log_p, torch.zeros(4), ADVANTAGES, clip=0.2)
    assert loss.tolist() == pytest.approx([-2.4, 3.0, -1.0, 1.6])
    loss.sum().backward()
    assert log_p.grad.tolist() == pytest.approx([0, 3.0, -1.0, 0])
    fraction = clip_fraction(tensor(LOG_RATIOS), torch.zeros(4), ADVANTAGES, clip=0.2)
    assert fraction.item() == 0.5


def test_the_first_update_is_reinforce() -> None:
    log_p = tensor([-1.0, -2.0], requires_grad=True)
    for clip in (None, 0.2):
        log_p.grad = None
        policy_loss(log_p, log_p.detach(), tensor([3.0, -5.0]), clip=clip).sum().backward()
        assert log_p.grad.tolist() == [-3.0, 5.0]


def test_value_loss_takes_the_larger_error() -> None:
    values, old = tensor([1.0, 3.0, 0.1]), tensor([0.0, 0.0, 0.0])
    returns = tensor([1.0, 3.0, 1.0])
    # clipped values are 0.2, 0.2, 0.1
    expected = [0.8**2 / 2, 2.8**2 / 2, 0.9**2 / 2]
    assert value_loss(values, old, returns, clip=0.2).tolist() == pytest.approx(expected)
