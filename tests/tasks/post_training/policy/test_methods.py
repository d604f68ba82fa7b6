"""Advantages of tokens, losses and their means by method, computed by hand."""

from __future__ import annotations

import pytest
import torch
from helpers.rollouts import policy_settings

from graphformer.distributed.mesh import DataParallel
from graphformer.tasks.post_training.policy.methods import (
    answer_advantages,
    mean_over_ranks,
    move_baseline,
    prepare_updates,
    reduce_losses,
    set_advantages,
    token_losses,
    whiten_all,
)
from graphformer.tasks.post_training.policy.state import PolicyState
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
    settings = policy_settings(method=method, group_size=4)
    found = answer_advantages(REWARDS, settings, baseline=0.4)
    assert found.tolist() == pytest.approx(expected, rel=1e-5)


def test_the_baseline_is_a_moving_average() -> None:
    assert move_baseline(None, 0.25) == 0.25
    assert move_baseline(0.5, 0.25) == pytest.approx(0.475)


def test_the_kl_of_a_token_counts_for_it_and_those_before() -> None:
    made, answers = rollouts(), torch.tensor([1.0, -1.0])
    set_advantages(made, answers, policy_settings(), token_kl_weight=0.1)
    assert made.advantages.tolist() == pytest.approx([1 - 0.7, 1 - 0.6, 1 - 0.4, -1 - 0.8])
    set_advantages(made, answers, policy_settings(), token_kl_weight=0.0)
    assert made.advantages.tolist() == [1, 1, 1, -1]


def test_ppo_puts_the_reward_at_the_last_token() -> None:
    made = rollouts()
    made.values = torch.tensor([0.5, 0.5, 0.5, 0.5])
    settings = policy_settings(method="ppo", gamma=1.0, lam=1.0)
    set_advantages(made, torch.tensor([1.0, 3.0]), settings, token_kl_weight=0.1)
    # with lambda 1 the returns are the sums of the rewards that follow
    assert made.returns.tolist() == pytest.approx([0.3, 0.4, 0.6, 2.2])
    assert made.advantages.tolist() == pytest.approx([-0.2, -0.1, 0.1, 1.7])


def test_whitening_is_over_all_minibatches() -> None:
    parts = [rollouts(), rollouts()]
    parts[0].advantages, parts[1].advantages = torch.arange(4.0), torch.arange(4.0, 8.0)
    whiten_all(parts, DataParallel())
    both = torch.cat([part.advantages for part in parts])
    assert both.mean().item() == pytest.approx(0, abs=1e-6)
    assert both.var().item() == pytest.approx(1, abs=1e-5)
    parts[0].advantages = torch.full((4,), 3.0)
    whiten_all(parts[:1], DataParallel())
    assert parts[0].advantages.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("method", "total", "count"),
    [("ppo", 15, 4), ("grpo", 7 / 3 + 8, 2), ("dr_grpo", 1.5, 2), ("rloo", 15, 2)],
)
def test_means_of_losses(method, total, count) -> None:
    losses = torch.tensor([1.0, 2.0, 4.0, 8.0])
    found = reduce_losses(losses, rollouts(), policy_settings(method=method, max_new_tokens=10))
    assert [float(x) for x in found] == pytest.approx([total, count])


def test_means_and_white_advantages_leave_padding_out() -> None:
    values, ranks = torch.tensor([3.0, 8.0]), DataParallel()
    assert mean_over_ranks(values, ranks) == 5.5
    assert mean_over_ranks(values, ranks, is_padding=True) == 0
    parts = [rollouts()]
    parts[0].advantages = torch.arange(4.0)
    whiten_all(parts, ranks, is_padding=True)
    assert parts[0].advantages.isfinite().all()


def test_updates_of_one_sampling() -> None:
    state = PolicyState(0.1, baseline=0.5, rollouts=[rollouts()])
    state.rollouts[0].rewards = torch.tensor([2.0, 1.0])
    settings = policy_settings(method="reinforce", kl_target=5.0, kl_horizon=4.0)
    # KL of the answers: 1 + 2 + 4 and 8; rewards less a tenth of that: 1.3 and 0.2
    assert prepare_updates(state, settings, DataParallel()) == pytest.approx(7.5)
    assert state.rollouts[0].advantages.tolist() == pytest.approx([0.8, 0.8, 0.8, -0.3])
    assert state.baseline == pytest.approx(0.9 * 0.5 + 0.1 * 0.75)
    assert state.kl_weight == pytest.approx(0.1 * (1 + 0.2 / 4))


def test_losses_of_tokens() -> None:
    made, log_p = rollouts(), torch.tensor([-1.0, -1.5, -1.0, -1.0])
    made.advantages = torch.tensor([1.0, 2.0, 0.0, -1.0])
    made.returns = torch.tensor([0.0, 1.0, 0.0, 2.0])
    settings = policy_settings(method="ppo", value_weight=0.5, value_clip=10.0, kl_place="loss",
                               kl_estimator="k2")  # fmt: skip
    found = token_losses(log_p, torch.ones(4), made, settings, kl_weight=0.2)
    ratio = (log_p + 1).exp()
    policy = -ratio * made.advantages  # the second ratio, 0.61, is clipped for A below 0 only
    kl = torch.tensor([1.0, 1.5, 4.0, 8.0]).square() / 2
    value = (1 - made.returns).square() / 2
    torch.testing.assert_close(found, policy + 0.2 * kl + 0.5 * value)
