"""Losses of policy gradient methods at each answer token, [T]."""

from __future__ import annotations

import torch
from torch import Tensor


def policy_loss(
    log_p: Tensor, old_log_p: Tensor, advantages: Tensor, *, clip: float | None
) -> Tensor:
    """Return -min(ratio A, clip(ratio, 1 - c, 1 + c) A) with ratio = p / p_old, [T].

    Without a clip it is -ratio A, whose gradient in the first update is that of REINFORCE,
    -A grad log p.

    Args:
        log_p: log-probability of each token under the policy, [T].
        old_log_p: under the policy that drew it, [T].
        advantages: A, [T].
        clip: c; None for no clip.

    Source: Schulman et al., 2017, equation 7; Williams, 1992 (REINFORCE).
    """
    ratio = (log_p - old_log_p).exp()
    if clip is None:
        return -ratio * advantages
    clipped = ratio.clamp(1 - clip, 1 + clip)
    return -torch.minimum(ratio * advantages, clipped * advantages)


def value_loss(values: Tensor, old_values: Tensor, returns: Tensor, *, clip: float) -> Tensor:
    """Return max((V - R)^2, (clip(V, V_old - c, V_old + c) - R)^2) / 2, [T].

    Args:
        values: V, [T].
        old_values: V_old, at the time of sampling, [T].
        returns: R, [T].
        clip: c.

    Source: Schulman et al., 2017, as in the implementation of OpenAI baselines.
    """
    clipped = torch.minimum(torch.maximum(values, old_values - clip), old_values + clip)
    return torch.maximum((values - returns).square(), (clipped - returns).square()) / 2


def clip_fraction(log_p: Tensor, old_log_p: Tensor, advantages: Tensor, *, clip: float) -> Tensor:
    """Return the share of tokens whose loss has no gradient due to the clip, [].

    Args:
        log_p, old_log_p, advantages, clip: of `policy_loss`.
    """
    ratio = (log_p - old_log_p).exp()
    above = (ratio > 1 + clip) & (advantages > 0)
    below = (ratio < 1 - clip) & (advantages < 0)
    return (above | below).float().mean()
