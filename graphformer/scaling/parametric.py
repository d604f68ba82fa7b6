"""The parametric law L(N, D) = E + A / N^alpha + B / D^beta (Hoffmann et al. 2022, approach 3)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import numpy as np

from graphformer.scaling.huber import logsumexp, minimise
from graphformer.scaling.table import FLOPS_PER_TOKEN, Floats, RunTable

_LEAST_E = 1e-4  # E relative to the smallest loss, below which it is 0


@dataclass(frozen=True)
class ParametricLaw:
    """L(N, D) = E + A / N^alpha + B / D^beta.

    Attributes:
        E: loss that no size and no number of tokens removes; 0 if the runs show none.
        A: coefficient of the size.
        B: coefficient of the tokens.
        alpha: exponent of the size.
        beta: exponent of the tokens.
    """

    E: float
    A: float
    B: float
    alpha: float
    beta: float

    def predict(self, N: Floats | float, D: Floats | float) -> Floats:
        """Return the loss of sizes and tokens."""
        N, D = np.asarray(N, dtype=float), np.asarray(D, dtype=float)
        return self.E + self.A * N**-self.alpha + self.B * D**-self.beta

    def optimum(self, flops: float, factor: float = FLOPS_PER_TOKEN) -> tuple[float, float]:
        """Return the size and tokens of the smallest loss with C = factor N D.

        N = G (C / factor)^(beta / (alpha + beta)) with G = (alpha A / (beta B))^(1 / (alpha +
        beta)); Hoffmann et al. 2022, eq. 4.
        """
        total = self.alpha + self.beta
        scale = (self.alpha * self.A / (self.beta * self.B)) ** (1 / total)
        size = scale * (flops / factor) ** (self.beta / total)
        return size, flops / (factor * size)

    @property
    def parameters(self) -> dict[str, float]:
        """The constants and the exponent of the optimal size, by name."""
        a = self.beta / (self.alpha + self.beta)
        constants = {"E": self.E, "A": self.A, "B": self.B}
        return {**constants, "alpha": self.alpha, "beta": self.beta, "N ~ C^": a, "D ~ C^": 1 - a}


def fit_parametric(runs: RunTable, start: ParametricLaw | None = None) -> ParametricLaw:
    """Fit the law to runs: summed Huber loss on log L, L-BFGS from a grid (Hoffmann et al. 2022).

    A and B are poorly determined by any table; E, alpha and beta are what to compare.

    Args:
        runs: at least 6 runs with 2 or more sizes and numbers of tokens.
        start: constants to start from instead of the grid.

    Raises:
        ValueError: when the runs do not determine five constants.
    """
    runs.check_determines(5)
    log_n, log_d = np.log(runs.N), np.log(runs.D)

    def model(parameters: Floats) -> tuple[Floats, Floats]:
        a, b, e, alpha, beta = parameters
        terms = np.stack([a - alpha * log_n, b - beta * log_d, np.full_like(log_n, e)])
        value, (share_n, share_d, share_e) = logsumexp(terms)
        columns = [share_n, share_d, share_e, -share_n * log_n, -share_d * log_d]
        return value, np.stack(columns, axis=1)

    least = float(runs.loss.min())
    starts = _grid() if start is None else _near(start, least)
    a, b, e, alpha, beta = map(float, minimise(model, np.log(runs.loss), starts))
    E = math.exp(e) if math.exp(e) > _LEAST_E * least else 0.0
    return ParametricLaw(E=E, A=math.exp(a), B=math.exp(b), alpha=alpha, beta=beta)


def _grid() -> list[Floats]:
    """Return the starts (a, b, e, alpha, beta) of Hoffmann et al. 2022, section 3.3."""
    logs, exponents = np.arange(0, 26, 5), np.arange(0, 2.1, 0.5)
    grid = product(logs, logs, np.arange(-1, 1.1, 0.5), exponents, exponents)
    return [np.array(point, dtype=float) for point in grid]


def _near(law: ParametricLaw, least: float) -> list[Floats]:
    """Return a law as a start, and with half of the smallest loss as E.

    From an E near 0, where log E has no gradient, L-BFGS would not find a larger one.
    """
    return [
        np.array([math.log(law.A), math.log(law.B), math.log(E), law.alpha, law.beta])
        for E in (max(law.E, _LEAST_E * least), least / 2)
    ]
