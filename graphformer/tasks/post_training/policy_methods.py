"""What distinguishes the methods of policy optimisation: advantages, and the mean of the loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from graphformer.tasks.post_training import advantages as adv
from graphformer.tasks.post_training.rollouts import Rollouts

Method: TypeAlias = Literal["reinforce", "rloo", "grpo", "dr_grpo", "ppo"]
KLPlace: TypeAlias = Literal["sample", "token", "loss"]
KL_PLACE: dict[str, KLPlace] = {"grpo": "loss", "dr_grpo": "loss", "ppo": "token"}
"""Where the KL penalty is by default, for methods other than "sample"."""
BASELINE_DECAY = 0.9


def move_baseline(baseline: float | None, rewards: Tensor) -> float:
    """Return the moving average of mean rewards after the rewards [B]; at first their mean."""
    mean = float(rewards.mean())
    return mean if baseline is None else BASELINE_DECAY * baseline + (1 - BASELINE_DECAY) * mean


def answer_advantages(
    rewards: Tensor, method: Method, *, group_size: int, baseline: float
) -> Tensor:
    """Return the advantage of each answer, [B]; for "ppo" its reward, for its last token.

    Args:
        rewards: of the answers, [B].
        method: see `PolicyOptimization`.
        group_size: number of answers to each prompt.
        baseline: of "reinforce".
    """
    if method == "rloo":
        return adv.leave_one_out(rewards, group_size)
    if method == "grpo":
        return adv.normalise(rewards, group_size)
    if method == "dr_grpo":
        return adv.centre(rewards, group_size)
    return rewards - baseline if method == "reinforce" else rewards


def set_advantages(
    rollouts: Rollouts,
    answers: Tensor,
    method: Method,
    *,
    token_kl_weight: float,
    gamma: float,
    lam: float,
) -> None:
    """Set advantages and returns of the tokens of rollouts, in place.

    Args:
        rollouts: changed.
        answers: see `answer_advantages`, [B].
        method: see `PolicyOptimization`.
        token_kl_weight: beta, if -beta log(p / p0) is the reward of each token; else 0.
        gamma, lam: of generalised advantages, for "ppo".
    """
    rewards = -token_kl_weight * (rollouts.log_p - rollouts.reference)
    if method == "ppo":
        rewards = rewards.index_add(0, rollouts.last_tokens(), answers)
        rollouts.advantages, rollouts.returns = adv.generalised_advantages(
            rewards, rollouts.values, rollouts.lengths, gamma=gamma, lam=lam
        )
        return
    zeros = torch.zeros_like(rewards)
    later, _ = adv.generalised_advantages(rewards, zeros, rollouts.lengths, lam=1.0)
    rollouts.advantages = rollouts.per_token(answers) + later


def whiten_all(rollouts: Sequence[Rollouts]) -> None:
    """Give the advantages of all tokens together mean 0 and variance 1, in place."""
    white = adv.whiten(torch.cat([one.advantages for one in rollouts]))
    parts = white.split([len(one.advantages) for one in rollouts])
    for one, part in zip(rollouts, parts, strict=True):
        one.advantages = part


def reduce_losses(
    losses: Tensor, rollouts: Rollouts, method: Method, *, max_new_tokens: int
) -> tuple[Tensor, Tensor]:
    """Return the sum of a loss and the number by which it is divided, both [].

    Args:
        losses: of tokens, [T].
        rollouts: of the tokens.
        method: see `PolicyOptimization`.
        max_new_tokens: by which "dr_grpo" divides sums over an answer.
    """
    answers = torch.tensor(len(rollouts.lengths), device=losses.device)
    if method == "ppo":
        return losses.sum(), torch.tensor(len(losses), device=losses.device)
    if method == "grpo":
        return rollouts.mean(losses).sum(), answers
    return losses.sum() / (max_new_tokens if method == "dr_grpo" else 1), answers
