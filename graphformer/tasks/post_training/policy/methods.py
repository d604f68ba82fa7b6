"""What distinguishes the methods of policy optimisation: advantages, losses and their means.

Averages over answers or tokens are those over all ranks, so that several processes compute the same
as one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from graphformer.distributed.mesh import DataParallel
from graphformer.tasks.post_training import advantages as adv
from graphformer.tasks.post_training.kl import adapt_kl_weight, estimate_kl
from graphformer.tasks.post_training.losses.policy import policy_loss, value_loss
from graphformer.tasks.post_training.policy.settings import PolicySettings
from graphformer.tasks.post_training.policy.state import PolicyState
from graphformer.tasks.post_training.rollouts import Rollouts

BASELINE_DECAY = 0.9


def mean_over_ranks(values: Tensor, ranks: DataParallel, *, is_padding: bool = False) -> float:
    """Return the mean of the values of all ranks, [n] each; 0 if there are none.

    Args:
        values: of this rank.
        ranks: that train together.
        is_padding: whether the values of this rank do not count.
    """
    counted = values[:0] if is_padding else values
    total, count = ranks.sum(counted.sum(), values.new_tensor(len(counted)))
    return float(total / count.clamp(min=1))


def move_baseline(baseline: float | None, reward: float) -> float:
    """Return the moving average of rewards after a mean reward; at first that.

    Args:
        baseline: before.
        reward: mean reward of the new answers.
    """
    return reward if baseline is None else BASELINE_DECAY * baseline + (1 - BASELINE_DECAY) * reward


def answer_advantages(rewards: Tensor, settings: PolicySettings, *, baseline: float) -> Tensor:
    """Return the advantage of each answer, [B]; for "ppo" its reward, for its last token.

    Args:
        rewards: of the answers, [B].
        settings: of the run.
        baseline: of "reinforce".
    """
    if settings.method == "rloo":
        return adv.leave_one_out(rewards, settings.group_size)
    if settings.method == "grpo":
        return adv.normalise(rewards, settings.group_size)
    if settings.method == "dr_grpo":
        return adv.centre(rewards, settings.group_size)
    return rewards - baseline if settings.method == "reinforce" else rewards


def set_advantages(
    rollouts: Rollouts, answers: Tensor, settings: PolicySettings, *, token_kl_weight: float
) -> None:
    """Set advantages and returns of the tokens of rollouts, in place.

    Args:
        rollouts: changed.
        answers: see `answer_advantages`, [B].
        settings: of the run.
        token_kl_weight: beta, if -beta log(p / p0) is the reward of each token; else 0.
    """
    rewards = -token_kl_weight * (rollouts.log_p - rollouts.reference)
    if settings.method == "ppo":
        rewards = rewards.index_add(0, rollouts.last_tokens(), answers)
        rollouts.advantages, rollouts.returns = adv.generalised_advantages(
            rewards, rollouts.values, rollouts.lengths, gamma=settings.gamma, lam=settings.lam
        )
        return
    zeros = torch.zeros_like(rewards)
    later, _ = adv.generalised_advantages(rewards, zeros, rollouts.lengths, lam=1.0)
    rollouts.advantages = rollouts.per_token(answers) + later


def whiten_all(
    rollouts: Sequence[Rollouts],
    ranks: DataParallel,
    *,
    is_padding: bool = False,
    eps: float = 1e-8,
) -> None:
    """Give the advantages of all tokens of all ranks mean 0 and variance 1, in place.

    The variance has the divisor T - 1.

    Args:
        rollouts: of this rank, changed.
        ranks: that train together.
        is_padding: whether the tokens of this rank do not count.
        eps: added to the variance.
    """
    values = torch.cat([one.advantages for one in rollouts])
    mean = mean_over_ranks(values, ranks, is_padding=is_padding)
    counted = values[:0] if is_padding else values
    squares, count = ranks.sum((counted - mean).square().sum(), values.new_tensor(len(counted)))
    scale = (squares / (count - 1).clamp(min=1) + eps).rsqrt()
    parts = ((values - mean) * scale).split([len(one.advantages) for one in rollouts])
    for one, part in zip(rollouts, parts, strict=True):
        one.advantages = part


@torch.no_grad()
def prepare_updates(state: PolicyState, settings: PolicySettings, ranks: DataParallel) -> float:
    """Set the advantages of new answers, baseline and KL weight, in place; return the mean KL.

    Args:
        state: with the rollouts, changed.
        settings: of the run.
        ranks: that train together.

    Returns:
        The mean of log(p / p0), summed over an answer, in nats.
    """
    rewards = torch.cat([rollouts.rewards for rollouts in state.rollouts])
    kls = torch.cat([r.sum(r.log_p - r.reference) for r in state.rollouts])
    kl = mean_over_ranks(kls, ranks, is_padding=state.is_padding)
    if settings.place == "sample":
        rewards = rewards - state.kl_weight * kls
    before = state.baseline
    mean = mean_over_ranks(rewards, ranks, is_padding=state.is_padding)
    state.baseline = move_baseline(before, mean)
    baseline = state.baseline if before is None else before
    answers = answer_advantages(rewards, settings, baseline=baseline)
    weight = state.kl_weight if settings.place == "token" else 0.0
    parts = answers.split([len(rollouts.lengths) for rollouts in state.rollouts])
    for rollouts, part in zip(state.rollouts, parts, strict=True):
        set_advantages(rollouts, part, settings, token_kl_weight=weight)
    if settings.has_white_advantages:
        whiten_all(state.rollouts, ranks, is_padding=state.is_padding)
    if settings.kl_target is not None:
        state.kl_weight = adapt_kl_weight(
            state.kl_weight, kl, target=settings.kl_target, horizon=settings.kl_horizon
        )
    return kl


def token_losses(
    log_p: Tensor,
    values: Tensor | None,
    rollouts: Rollouts,
    settings: PolicySettings,
    *,
    kl_weight: float,
) -> Tensor:
    """Return the loss of each answer token, [T].

    Args:
        log_p: log-probability of each token under the policy, [T].
        values: of the critic before each token, [T]; None without one.
        rollouts: of the tokens.
        settings: of the run.
        kl_weight: beta, of a KL penalty in the loss.
    """
    losses = policy_loss(log_p, rollouts.log_p, rollouts.advantages, clip=settings.ratio_clip)
    if settings.place == "loss":
        kl = estimate_kl(log_p, rollouts.reference, settings.kl_estimator)
        losses = losses + kl_weight * kl
    if values is not None:
        errors = value_loss(values, rollouts.values, rollouts.returns, clip=settings.value_clip)
        losses = losses + settings.value_weight * errors
    return losses


def reduce_losses(
    losses: Tensor, rollouts: Rollouts, settings: PolicySettings
) -> tuple[Tensor, Tensor]:
    """Return the sum of a loss and the number by which it is divided, both [].

    Args:
        losses: of tokens, [T].
        rollouts: of the tokens.
        settings: of the run; "dr_grpo" divides sums over an answer by `max_new_tokens`.
    """
    answers = torch.tensor(len(rollouts.lengths), device=losses.device)
    if settings.method == "ppo":
        return losses.sum(), torch.tensor(len(losses), device=losses.device)
    if settings.method == "grpo":
        return rollouts.mean(losses).sum(), answers
    divisor = settings.max_new_tokens if settings.method == "dr_grpo" else 1
    return losses.sum() / divisor, answers
