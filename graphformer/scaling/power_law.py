"""Power laws y = coefficient x^exponent, by least squares of the logarithms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from graphformer.scaling.table import Floats


@dataclass(frozen=True)
class PowerLaw:
    """y = coefficient x^exponent."""

    coefficient: float
    exponent: float

    def predict(self, x: Floats | float) -> Floats:
        """Return y of x."""
        return np.asarray(self.coefficient * np.asarray(x, dtype=float) ** self.exponent)


def fit_power_law(x: ArrayLike, y: ArrayLike) -> PowerLaw:
    """Return the line of least squares through (log x, log y).

    Raises:
        ValueError: when there are fewer than two different x.
    """
    log_x, log_y = np.log(np.asarray(x, dtype=float)), np.log(np.asarray(y, dtype=float))
    if len(np.unique(log_x)) < 2:
        raise ValueError(f"x: got {len(np.unique(log_x))} different values, expected 2 or more")
    exponent, constant = np.polyfit(log_x - log_x.mean(), log_y, 1)
    return PowerLaw(float(np.exp(constant - exponent * log_x.mean())), float(exponent))
