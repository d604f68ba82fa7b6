"""Uncertainty of scaling laws: bootstrap intervals, and the error on a held-out run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from graphformer.scaling.table import Floats, RunTable


class LossLaw(Protocol):
    """A law that predicts losses."""

    def predict(self, N: Floats | float, D: Floats | float) -> Floats:
        """Return the loss of sizes and tokens."""
        ...


@dataclass(frozen=True)
class HeldOut:
    """The run of most compute, and what a law that was fitted without it predicts.

    Attributes:
        row: of the run in the table.
        predicted: loss of the law.
        observed: loss of the run.
    """

    row: int
    predicted: float
    observed: float

    @property
    def error(self) -> float:
        """Relative error of the prediction."""
        return self.predicted / self.observed - 1


def bootstrap(
    runs: RunTable,
    estimate: Callable[[RunTable], Mapping[str, float]],
    *,
    resamples: int = 200,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Return percentile intervals of the values that are estimated from resampled runs.

    Resamples that the estimate refuses are left out; where it refuses half of them, there is no
    interval.

    Args:
        runs: the table, whose rows are drawn with replacement.
        estimate: name -> value of a table; a ValueError refuses it.
        resamples: number of resampled tables.
        level: coverage of the intervals.
        seed: of the random numbers.
    """
    generator = np.random.default_rng(seed)
    samples: dict[str, list[float]] = {}
    for _ in range(resamples):
        rows = generator.integers(len(runs), size=len(runs))
        try:
            values = estimate(runs.select(rows))
        except ValueError:
            continue
        for name, value in values.items():
            samples.setdefault(name, []).append(value)
    tails = [50 * (1 - level), 50 * (1 + level)]
    return {
        name: (float(low), float(high))
        for name, values in samples.items()
        if len(values) > resamples / 2
        for low, high in [np.percentile(values, tails)]
    }


def hold_out_largest(runs: RunTable, fit: Callable[[RunTable], LossLaw]) -> HeldOut:
    """Fit without the run of most compute, and predict its loss.

    Raises:
        ValueError: when the other runs are too few for the fit.
    """
    row = int(np.argmax(runs.C))
    law = fit(runs.select(np.arange(len(runs)) != row))
    return HeldOut(row, float(law.predict(runs.N[row], runs.D[row])), float(runs.loss[row]))
