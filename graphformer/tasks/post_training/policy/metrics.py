"""What `PolicyOptimization` logs about sampled answers and about updates."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from graphformer.tasks.post_training.kl import estimate_kl
from graphformer.tasks.post_training.losses.policy import clip_fraction
from graphformer.tasks.post_training.rewards import Completion
from graphformer.tasks.post_training.rollouts import Rollouts


def answer_metrics(
    completions: Sequence[Completion], rewards: Tensor, group_size: int
) -> dict[str, Tensor]:
    """Return means over answers by name: reward, its spread, equal groups and length.

    Args:
        completions: the answers, those to a prompt in a row.
        rewards: of the answers, [B].
        group_size: number of answers to a prompt.
    """
    groups = rewards.view(-1, group_size)
    sizes = torch.tensor([len(c.ids) - c.prompt_length for c in completions])
    return {
        "reward": rewards.mean(),
        "reward_std": rewards.std(correction=0),
        "frac_reward_zero_std": (groups == groups[:, :1]).all(1).float().mean(),
        "completions/mean_length": sizes.float().mean(),
    }


@torch.no_grad()
def update_metrics(
    rollouts: Rollouts, log_p: Tensor, entropies: Tensor, clip: float | None
) -> dict[str, Tensor]:
    """Return means over tokens by name: entropy, KL to the old policy, share of clipped ratios.

    Args:
        rollouts: the minibatch.
        log_p: log-probability of each token under the policy, [T].
        entropies: of the policy at each token, [T].
        clip: of the ratios; None without one, then there is no share.
    """
    old = rollouts.log_p
    found = {"entropy": entropies.mean(), "approx_kl": estimate_kl(old, log_p, "k3").mean()}
    if clip is not None:
        found["clip_fraction"] = clip_fraction(log_p, old, rollouts.advantages, clip=clip)
    return found
