"""Shares of right answers with confidence intervals."""

from __future__ import annotations

from typing import NamedTuple


class Proportion(NamedTuple):
    """A share of samples with its 95 % confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} ({self.low:.4f} to {self.high:.4f})"


def proportion(hits: int, count: int) -> Proportion:
    """Return hits / count with its 95 % interval by Wilson's method.

    Raises:
        ValueError: when there are no samples.
    """
    from scipy.stats import binomtest

    if count < 1:
        raise ValueError("count: got 0, expected at least one sample; choose other data")
    interval = binomtest(hits, count).proportion_ci(method="wilson")
    return Proportion(hits / count, float(interval.low), float(interval.high))
