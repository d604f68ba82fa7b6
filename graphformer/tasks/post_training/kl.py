"""Estimators of the Kullback-Leibler divergence from tokens that the policy has drawn."""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor

Estimator = Literal["k1", "k2", "k3"]


def estimate_kl(log_p: Tensor, reference: Tensor, estimator: Estimator) -> Tensor:
    """Return an estimate of KL(policy, reference) at each token, [T].

    With d = log p - log p0 of the drawn token:

    - k1 = d is unbiased, and its gradient has mean zero: for rewards only.
    - k2 = d^2 / 2 is biased, and the mean of its gradient is that of the divergence: for losses.
    - k3 = exp(-d) - 1 + d is unbiased and never negative; its gradient is biased.

    Args:
        log_p: log-probability of each token under the policy, [T].
        reference: under the reference, [T].
        estimator: "k1", "k2" or "k3".

    Raises:
        ValueError: when the estimator is unknown.

    Source: Schulman, 2020, "Approximating KL divergence".
    """
    difference = log_p - reference
    if estimator == "k1":
        return difference
    if estimator == "k2":
        return difference.square() / 2
    if estimator == "k3":
        return (-difference).expm1() + difference
    raise ValueError(f"estimator: got {estimator!r}, expected one of {get_args(Estimator)}")


def adapt_kl_weight(weight: float, kl: float, *, target: float, horizon: float) -> float:
    """Return the weight of the KL penalty after an update: larger if the KL exceeds its target.

    weight * (1 + clip(kl / target - 1, -0.2, 0.2) / horizon).

    Args:
        weight: before the update.
        kl: that was measured, in nats per sample.
        target: of the KL.
        horizon: number of updates in which an error of 20 % changes the weight by about 20 %.

    Source: Ziegler et al., 2019, section 2.2.
    """
    error = min(max(kl / target - 1, -0.2), 0.2)
    return weight * (1 + error / horizon)
