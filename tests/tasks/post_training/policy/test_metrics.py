"""What is logged about answers and updates, computed by hand."""

from __future__ import annotations

import math

import pytest
import torch

from graphformer.tasks.post_training.policy.metrics import answer_metrics, update_metrics
from graphformer.tasks.post_training.rewards import Completion
from graphformer.tasks.post_training.rollouts import new_rollouts, pack_answers


def test_answers() -> None:
    completions = [Completion("", "", "", [1, 2, *[3] * n], 2, True) for n in (1, 2, 3, 5)]
    found = answer_metrics(completions, torch.tensor([2.0, 2.0, 0.0, 1.0]), 2)
    assert float(found["reward"]) == 1.25
    assert float(found["reward_std"]) == pytest.approx(math.sqrt(11 / 16))
    assert float(found["frac_reward_zero_std"]) == 0.5
    assert float(found["completions/mean_length"]) == 2.75


def test_updates() -> None:
    batch = pack_answers([[1, 2, 3, 4]], [1])
    old = torch.tensor([-1.0, -2.0, -3.0])
    made = new_rollouts(batch, torch.zeros(1), old, old)
    made.advantages = torch.tensor([1.0, 1.0, -1.0])
    log_p = old + torch.tensor([math.log(2), 0.0, math.log(2)])
    found = update_metrics(made, log_p, torch.tensor([0.5, 0.1, 0.0]), 0.2)
    # KL to the old policy, of its samples: ratio - 1 - log ratio
    assert float(found["approx_kl"]) == pytest.approx(2 * (1 - math.log(2)) / 3)
    assert float(found["clip_fraction"]) == pytest.approx(1 / 3)
    assert float(found["entropy"]) == pytest.approx(0.2)
    assert "clip_fraction" not in update_metrics(made, log_p, torch.zeros(3), None)
