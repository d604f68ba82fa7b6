"""IsoFLOP profiles: a parabola per budget, and power laws through their minima.

Source: Hoffmann et al. 2022, approach 2.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from graphformer.scaling.power_law import PowerLaw, fit_power_law
from graphformer.scaling.table import Floats, RunTable

_SAME_BUDGET = 0.1  # largest gap of log C between runs of one budget
_SPAN = 0.25  # largest difference of log C in a budget


@dataclass(frozen=True)
class Minimum:
    """The smallest loss at one budget.

    Attributes:
        C: compute of the budget, geometric mean of its runs, in FLOPs.
        N: optimal size.
        D: optimal number of tokens.
        loss: loss at the optimal size.
    """

    C: float
    N: float
    D: float
    loss: float


@dataclass(frozen=True)
class IsoFLOP:
    """Optimal size and tokens as power laws of the compute.

    Attributes:
        minima: one per accepted budget.
        refused: budget in FLOPs -> why it has no minimum.
        size: N of C.
        tokens: D of C.
    """

    minima: tuple[Minimum, ...]
    refused: dict[float, str]
    size: PowerLaw
    tokens: PowerLaw

    def optimum(self, flops: float) -> tuple[float, float]:
        """Return the size and tokens of a budget."""
        return float(self.size.predict(flops)), float(self.tokens.predict(flops))

    @property
    def parameters(self) -> dict[str, float]:
        """The exponents of size and tokens, by name."""
        return {"N ~ C^": self.size.exponent, "D ~ C^": self.tokens.exponent}


def fit_isoflop(runs: RunTable) -> IsoFLOP:
    """Fit a parabola of the loss in log N and one in log D to the runs of each budget.

    A budget is refused if the smallest loss is at its smallest or largest model, or the parabola
    has its vertex outside of them: the minimum is not in the data.

    Args:
        runs: at least three sizes at two or more budgets; runs whose C differ by less than 10 %
            are of one budget.

    Raises:
        ValueError: when fewer than two budgets have a minimum.
    """
    minima, refused = [], {}
    for budget in budgets(runs):
        flops = float(np.exp(np.log(budget.C).mean()))
        try:
            minima.append(_minimum(flops, budget))
        except ValueError as error:
            refused[flops] = str(error)
    if len(minima) < 2:
        reasons = ", ".join(f"{n} x {why}" for why, n in Counter(refused.values()).items())
        raise ValueError(
            f"runs: got {len(minima)} budgets with a minimum, expected 2 or more ({reasons}); "
            "add sizes"
        )
    compute = [minimum.C for minimum in minima]
    size = fit_power_law(compute, [minimum.N for minimum in minima])
    tokens = fit_power_law(compute, [minimum.D for minimum in minima])
    return IsoFLOP(tuple(minima), refused, size, tokens)


def budgets(runs: RunTable) -> Iterator[RunTable]:
    """Yield the runs of each budget, by increasing compute."""
    order = np.argsort(runs.C, kind="stable")
    breaks = np.flatnonzero(np.diff(np.log(runs.C[order])) > _SAME_BUDGET) + 1
    for rows in np.split(order, breaks):
        yield runs.select(rows)


def _minimum(flops: float, runs: RunTable) -> Minimum:
    span = float(runs.C.max() / runs.C.min())
    if np.log(span) > _SPAN:
        raise ValueError(f"its runs differ in FLOPs by a factor of {span:.3g}")
    log_n, loss = _vertex(runs.N, runs.loss)
    log_d, _ = _vertex(runs.D, runs.loss)
    return Minimum(flops, float(np.exp(log_n)), float(np.exp(log_d)), loss)


def _vertex(x: Floats, loss: Floats) -> tuple[float, float]:
    """Return the vertex (log x, loss) of the parabola through the points.

    Raises:
        ValueError: when the minimum is not between the smallest and largest x.
    """
    values = np.unique(x)
    if len(values) < 3:
        raise ValueError(f"there are {len(values)} sizes, of 3 that a parabola needs")
    if x[np.argmin(loss)] in (values[0], values[-1]):
        raise ValueError("the smallest loss is at the edge of the sizes")
    center = np.log(x).mean()
    square, slope, constant = np.polyfit(np.log(x) - center, loss, 2)
    vertex = -slope / (2 * square) if square > 0 else np.inf
    if not np.log(values[0]) < vertex + center < np.log(values[-1]):
        raise ValueError("the parabola has its minimum outside of the sizes")
    return float(vertex + center), float(constant - slope**2 / (4 * square))
