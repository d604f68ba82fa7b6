"""Power laws without irreducible loss: L(N, D) and L(C) (Kaplan et al. 2020)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import numpy as np

from graphformer.scaling.huber import logsumexp, minimise
from graphformer.scaling.power_law import PowerLaw, fit_power_law
from graphformer.scaling.table import FLOPS_PER_TOKEN, Floats, RunTable

_BOUNDS = ((-50.0, 400.0), (-50.0, 400.0), (-7.0, 2.0), (-7.0, 2.0))
"""Of log N_c, log D_c, log alpha_N and log alpha_D: beyond them, powers overflow."""


@dataclass(frozen=True)
class KaplanLaw:
    """L(N, D) = [(N_c / N)^(alpha_N / alpha_D) + D_c / D]^alpha_D, eq. 1.5 of Kaplan et al. 2020.

    With unlimited tokens it is (N_c / N)^alpha_N, with an unlimited size (D_c / D)^alpha_D.

    Attributes:
        N_c: size at which the first term is 1.
        D_c: tokens at which the second term is 1.
        alpha_n: exponent of the size.
        alpha_d: exponent of the tokens.
        compute: L(C) along the frontier of runs that no cheaper run betters; None if these are
            fewer than two.
    """

    N_c: float
    D_c: float
    alpha_n: float
    alpha_d: float
    compute: PowerLaw | None = None

    def predict(self, N: Floats | float, D: Floats | float) -> Floats:
        """Return the loss of sizes and tokens."""
        N, D = np.asarray(N, dtype=float), np.asarray(D, dtype=float)
        return ((self.N_c / N) ** (self.alpha_n / self.alpha_d) + self.D_c / D) ** self.alpha_d

    def optimum(self, flops: float, factor: float = FLOPS_PER_TOKEN) -> tuple[float, float]:
        """Return the size and tokens of the smallest loss with C = factor N D.

        Along that curve the derivative of the sum by log N vanishes where (alpha_N / alpha_D)
        (N_c / N)^(alpha_N / alpha_D) = D_c factor N / C.
        """
        ratio = self.alpha_n / self.alpha_d
        constant = math.log(ratio) + ratio * math.log(self.N_c) - math.log(self.D_c)
        size = math.exp((constant + math.log(flops / factor)) / (1 + ratio))
        return size, flops / (factor * size)

    @property
    def parameters(self) -> dict[str, float]:
        """The constants and the exponent of the compute frontier, by name."""
        sizes = {"N_c": self.N_c, "D_c": self.D_c}
        exponents = {"alpha_N": self.alpha_n, "alpha_D": self.alpha_d}
        frontier = {} if self.compute is None else {"alpha_C": -self.compute.exponent}
        return {**sizes, **exponents, **frontier}


def fit_kaplan(runs: RunTable, start: KaplanLaw | None = None) -> KaplanLaw:
    """Fit the power laws to runs, by the same loss and method as `fit_parametric`.

    Args:
        runs: at least 5 runs with 2 or more sizes and numbers of tokens.
        start: constants to start from instead of a grid.

    Raises:
        ValueError: when the runs do not determine four constants.
    """
    runs.check_determines(4)
    log_n, log_d = np.log(runs.N), np.log(runs.D)

    def model(parameters: Floats) -> tuple[Floats, Floats]:
        log_nc, log_dc, log_an, log_ad = parameters
        alpha_n, alpha_d = np.exp(log_an), np.exp(log_ad)
        ratio = alpha_n / alpha_d
        terms = np.stack([ratio * (log_nc - log_n), log_dc - log_d])
        total, (share_n, share_d) = logsumexp(terms)
        by_ratio = alpha_d * share_n * terms[0]  # d value / d log ratio
        columns = [alpha_n * share_n, alpha_d * share_d, by_ratio, alpha_d * total - by_ratio]
        return alpha_d * total, np.stack(columns, axis=1)

    starts = _grid(log_n, log_d) if start is None else [_inverse(start)]
    n_c, d_c, alpha_n, alpha_d = map(math.exp, minimise(model, np.log(runs.loss), starts, _BOUNDS))
    return KaplanLaw(n_c, d_c, alpha_n, alpha_d, _fit_frontier(runs))


def frontier(runs: RunTable) -> RunTable:
    """Return the runs that no run of the same or less compute betters, by increasing compute."""
    rows: list[int] = []
    for row in np.lexsort((runs.loss, runs.C)):
        if not rows or runs.loss[row] < runs.loss[rows[-1]]:
            rows.append(int(row))
    return runs.select(np.array(rows, dtype=np.int64))


def _fit_frontier(runs: RunTable) -> PowerLaw | None:
    best = frontier(runs)
    return fit_power_law(best.C, best.loss) if len(best) > 1 else None


def _grid(log_n: Floats, log_d: Floats) -> list[Floats]:
    """Return starts: exponents of 0.03 to 0.5, and constants near and far above the data."""
    exponents = np.log([0.03, 0.1, 0.3, 0.5])
    above = (0.0, 5.0, 10.0, 20.0)
    grid = product(log_n.mean() + above, log_d.mean() + above, exponents, exponents)
    return [np.array(point) for point in grid]


def _inverse(law: KaplanLaw) -> Floats:
    return np.log([law.N_c, law.D_c, law.alpha_n, law.alpha_d])
