"""Advantages of tokens and means of losses by method, computed by hand."""

from __future__ import annotations

import pytest
import torch

from graphformer.tasks.post_training.policy_methods import (
    answer_advantages,
    move_baseline,
    reduce_losses,
    set_advantages,
    whiten_all,
)
from graphformer.tasks.post_training.rollouts import Rollouts, new_rollouts, pack_answers

REWARDS = torch.tensor([1.0, 0.0, 0.0, 0.0])


def rollouts() -> Rollouts:
    """Two answers, of 3 and 1 tokens, whose log-ratios to the reference are 1, 2, 4 and 8."""
    batch = pack_answers([[1, 2, 3, 4], [5, 6]], [1, 1])
    log_p = torch.tensor([-1.0, -1.0, -1.0, -1.0])
    return new_rollouts(batch, torch.zeros(2), log_p, log_p - torch.tensor([1.0, 2.0, 4.0, 8.0]))


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("reinforce", [0.6, -0.4, -0.4, -0.4]),
        ("rloo", [1, -1 / 3, -1 / 3, -1 / 3]),
        ("grpo", [1.5, -0.5, -0.5, -0.5]),
        ("dr_grpo", [0.75, -0.25, -0.25, -0.25]),
        ("ppo", [1, 0, 0, 0]),
    ],
)
def test_answers(method, expected) -> None:
    found = answer_advantages(REWARDS, method, group_size=4, baseline=0.4)
    assert found.tolist() == pytest.approx(expected, rel=1e-5)


def test_the_baseline_is_a_moving_average() -> None:
    assert move_baseline(None, REWARDS) == 0.25
    assert move_baseline(0.5, REWARDS) == pytest.approx(0.475)


def test_the_kl_of_a_token_counts_for_it_and_those_before() -> None:
    made, answers = rollouts(), torch.tensor([1.0, -1.0])
    set_advantages(made, answers, "rloo", token_kl_weight=0.1, gamma=1.0, lam=0.95)
    assert made.advantages.tolist() == pytest.approx([1 - 0.7, 1 - 0.6, 1 - 0.4, -1 - 0.8])
    set_advantages(made, answers, "rloo", token_kl_weight=0.0, gamma=1.0, lam=0.95)
    assert made.advantages.tolist() == [1, 1, 1, -1]


def test_ppo_puts_the_reward_at_the_last_token() -> None:
    made = rollouts()
    made.values = torch.tensor([0.5, 0.5, 0.5, 0.5])
    set_advantages(made, torch.tensor([1.0, 3.0]), "ppo", token_kl_weight=0.1, gamma=1.0, lam=1.0)
    # with lambda 1 the returns are the sums of the rewards that follow
    assert made.returns.tolist() == pytest.approx([0.3, 0.4, 0.6, 2.2])
    assert made.advantages.tolist() == pytest.approx([-0.2, -0.1, 0.1, 1.7])


def test_whitening_is_over_all_minibatches() -> None:
    parts = [rollouts(), rollouts()]
    parts[0].advantages, parts[1].advantages = torch.arange(4.0), torch.arange(4.0, 8.0)
    whiten_all(parts)
    both = torch.cat([part.advantages for part in parts])
    assert both.mean().item() == pytest.approx(0, abs=1e-6)
    assert both.var().item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("method", "total", "count"),
    [("ppo", 15, 4), ("grpo", 7 / 3 + 8, 2), ("dr_grpo", 1.5, 2), ("rloo", 15, 2)],
)
def test_means_of_losses(method, total, count) -> None:
    losses = torch.tensor([1.0, 2.0, 4.0, 8.0])
    found = reduce_losses(losses, rollouts(), method, max_new_tokens=10)
    assert [float(x) for x in found] == pytest.approx([total, count])
