"""Conformal prediction sets and intervals, and the risk of a model that may abstain."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def conformal_threshold(scores: Tensor, alpha: float) -> float:
    """Return the score that a new sample's score exceeds with a probability of at most alpha.

    It is the k-th smallest of n scores, k = ceil((n + 1) (1 - alpha)), or infinity for k above n.
    The samples and the new one must be exchangeable, and not used to fit the model.

    Args:
        scores: of the calibration samples, larger for worse predictions, [n].
        alpha: the tolerated rate of misses, between 0 and 1.

    Raises:
        ValueError: when alpha is not between 0 and 1.

    Source: Vovk et al., 2005; Angelopoulos and Bates, 2021, https://arxiv.org/abs/2107.07511.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha: got {alpha}, expected a rate between 0 and 1, such as 0.1")
    k = math.ceil(round((len(scores) + 1) * (1 - alpha), 9))  # 0.9 is not exact in binary
    return float(scores.kthvalue(k).values) if k <= len(scores) else math.inf


def class_scores(probabilities: Tensor, y: Tensor) -> Tensor:
    """Return the conformal score of each sample, 1 minus the probability of its class, [B]."""
    return 1 - probabilities.gather(1, y[:, None]).squeeze(1)


def prediction_sets(probabilities: Tensor, threshold: float) -> Tensor:
    """Return which classes the conformal set of each sample contains, bool [B, K].

    Args:
        probabilities: [B, K].
        threshold: `conformal_threshold` of the `class_scores` of calibration samples.
    """
    return 1 - probabilities <= threshold


def risk_coverage(probabilities: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return coverage and error rate of a model that answers its most confident samples only.

    Args:
        probabilities: [B, K].
        y: classes, [B].

    Returns:
        Coverages k / B, and the error rate among the k most confident samples, k from 1 to B; both
        float64 [B].

    Source: Geifman and El-Yaniv, 2017, https://arxiv.org/abs/1705.08500.
    """
    confidence, predicted = probabilities.max(1)
    order = confidence.argsort(descending=True, stable=True)
    wrong = (predicted != y)[order].double()
    answered = torch.arange(1, len(y) + 1, dtype=torch.float64)
    return answered / len(y), wrong.cumsum(0) / answered
