"""Advantages: how much better than expected a sampled answer, or a token of it, is."""

from __future__ import annotations

import torch
from torch import Tensor


def leave_one_out(rewards: Tensor, group_size: int) -> Tensor:
    """Return r_i minus the mean reward of the other answers to the same prompt, [B].

    Args:
        rewards: of the answers, [B]; consecutive groups of `group_size` have the same prompt.
        group_size: number of answers G to a prompt, 2 or more.

    Raises:
        ValueError: when the groups are too small, or do not fit the number of rewards.

    Source: Kool et al., 2019; Ahmadian et al., 2024 (RLOO), section 2.1.
    """
    deviation = centre(rewards, group_size)
    return deviation * (group_size / (group_size - 1))  # r - (S - r) / (G - 1)


def normalise(rewards: Tensor, group_size: int, *, eps: float = 1e-6) -> Tensor:
    """Return (r_i - mean) / (standard deviation + eps) within each group, [B]: GRPO.

    The standard deviation has the divisor G - 1. Equal rewards give exactly zero.

    Args:
        rewards, group_size: of `leave_one_out`.
        eps: added to the standard deviation.

    Source: Shao et al., 2024 (DeepSeekMath), section 4.1.2.
    """
    deviation = centre(rewards, group_size)
    groups = deviation.unflatten(0, (-1, group_size))
    spread = groups.square().sum(1, keepdim=True).div(group_size - 1).sqrt()
    return (groups / (spread + eps)).flatten()


def centre(rewards: Tensor, group_size: int) -> Tensor:
    """Return r_i minus the mean of its group, [B]: Dr. GRPO. Equal rewards give exactly zero.

    Args:
        rewards, group_size: of `leave_one_out`.

    Source: Liu et al., 2025, "Understanding R1-Zero-like training", section 3.
    """
    if group_size < 2 or len(rewards) % group_size:
        raise ValueError(
            f"group_size: got {group_size} for {len(rewards)} answers, expected 2 or more and a "
            "divisor of their number; set the number of answers to a prompt"
        )
    groups = rewards.unflatten(0, (-1, group_size))
    shifted = groups - groups[:, :1]  # exactly zero in a group of equal rewards
    return (shifted - shifted.mean(1, keepdim=True)).flatten()


def generalised_advantages(
    rewards: Tensor,
    values: Tensor,
    lengths: tuple[int, ...],
    *,
    gamma: float = 1.0,
    lam: float = 0.95,
) -> tuple[Tensor, Tensor]:
    """Return advantages and returns of tokens, both [T].

    A_t = d_t + gamma lam A_(t+1) with d_t = r_t + gamma V_(t+1) - V_t, where V and A are zero after
    the last token of an answer; the returns are A_t + V_t.

    Args:
        rewards: after each token, [T].
        values: V before each token, [T].
        lengths: number of tokens of each answer, B ints whose sum is T.
        gamma: discount of later rewards.
        lam: decay of the weights of longer returns.

    Source: Schulman et al., 2016, equation 16.
    """
    sizes = torch.tensor(lengths, device=rewards.device)
    starts = sizes.cumsum(0) - sizes
    following, advantages = torch.zeros_like(values), torch.zeros_like(values)
    following[:-1] = values[1:]
    following[(starts + sizes - 1)[sizes > 0]] = 0.0
    delta = rewards + gamma * following - values
    later = values.new_zeros(len(lengths))  # A_(t+1) of each answer
    for step in reversed(range(max(lengths, default=0))):
        rows = (sizes > step).nonzero().squeeze(1)
        tokens = starts[rows] + step
        later[rows] = delta[tokens] + gamma * lam * later[rows]
        advantages[tokens] = later[rows]
    return advantages, advantages + values
