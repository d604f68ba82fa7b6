"""Calibration of class probabilities: Brier score, reliability diagram and temperature scaling.

The expected calibration error is `torchmetrics.functional.classification`'s
`multiclass_calibration_error`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

LOG_TEMPERATURE = math.log(100.0)
"""`fit_temperature` searches from 1 / 100 to 100: beyond, the classes are all but separable."""


class Reliability(NamedTuple):
    """The bins of a reliability diagram that contain samples."""

    confidence: Tensor
    """Mean confidence of each bin, [bins]."""
    accuracy: Tensor
    """Share of right predictions of each bin, [bins]."""
    samples: Tensor
    """Number of samples of each bin, int64 [bins]."""


def brier_score(probabilities: Tensor, y: Tensor) -> Tensor:
    """Return the mean over samples of sum_k (p_k - [y = k])^2, [], from 0 to 2.

    Args:
        probabilities: [B, K].
        y: classes, [B].

    Source: Brier, 1950.
    """
    one_hot = F.one_hot(y, probabilities.shape[1])
    return (probabilities - one_hot).square().sum(1).mean()


def reliability(probabilities: Tensor, y: Tensor, *, bins: int = 15) -> Reliability:
    """Return confidence and accuracy of samples by their confidence, in bins of equal width.

    Args:
        probabilities: [B, K]; the confidence is the largest of a row.
        y: classes, [B].
        bins: number of bins from 0 to 1; empty ones are left out.
    """
    confidence, predicted = probabilities.double().max(1)
    return binned(confidence, (predicted == y).double(), bins=bins)


def binned(confidence: Tensor, right: Tensor, *, bins: int = 15) -> Reliability:
    """Return the means of both by bins of the confidence, of equal width from 0 to 1.

    Args:
        confidence: probabilities of an event, float64 [B].
        right: 1 where it is so and 0 elsewhere, float64 [B].
        bins: number of bins; empty ones are left out.
    """
    index = (confidence * bins).long().clamp(max=bins - 1)
    count = index.bincount(minlength=bins)
    filled = count > 0
    sums = torch.stack([index.bincount(values, bins) for values in (confidence, right)])
    means = sums[:, filled] / count[filled]
    return Reliability(means[0], means[1], count[filled])


def fit_temperature(logits: Tensor, y: Tensor) -> float:
    """Return the T above 0 with the lowest cross-entropy of softmax(logits / T).

    The cross-entropy is convex in 1 / T, so that a bounded search over log T finds the minimum.

    Args:
        logits: of samples that were not used for training, [B, K].
        y: classes, [B].

    Raises:
        ValueError: when there are no samples, or a logit is not finite.

    Source: Guo et al., 2017, https://arxiv.org/abs/1706.04599.
    """
    from scipy.optimize import minimize_scalar

    if not len(y) or not logits.isfinite().all():
        raise ValueError(
            f"logits: got shape {tuple(logits.shape)}, expected at least one row and finite "
            "numbers; check the validation split and the training"
        )
    wide = logits.double()

    def loss(log_temperature: float) -> float:
        return F.cross_entropy(wide / math.exp(log_temperature), y).item()

    bounds = (-LOG_TEMPERATURE, LOG_TEMPERATURE)
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return math.exp(float(found.x))
