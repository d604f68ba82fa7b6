"""Huber loss on the log of the loss, minimised by L-BFGS from a grid of starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from graphformer.scaling.table import Floats

DELTA = 1e-3
"""Residual of log L where the Huber loss turns from quadratic to linear (Hoffmann et al. 2022)."""
_BEST_STARTS = 40  # of the grid, by their value; the others converge to worse minima or the same

Model = Callable[[Floats], tuple[Floats, Floats]]
"""Parameters [P] -> predicted log losses [R] and their derivatives [R, P]."""


def huber_sum(residuals: Floats) -> float:
    """Return the sum over runs of Huber's loss: r^2 / 2 up to `DELTA`, linear beyond it."""
    size = np.abs(residuals)
    inner = np.minimum(size, DELTA)
    return float(np.sum(inner * (size - inner / 2)))


def minimise(
    model: Model,
    log_loss: Floats,
    starts: Sequence[Floats],
    bounds: Sequence[tuple[float, float]] | None = None,
) -> Floats:
    """Return the parameters of the smallest summed Huber loss over all starts.

    The sum is divided by `DELTA`^2, and never averaged: with small values, L-BFGS would stop early
    because its tolerances are absolute (Besiroglu et al. 2024).

    Args:
        model: predicted log losses and their derivatives.
        log_loss: observed log losses [R].
        starts: parameters to start from; the best ones of many are used.
        bounds: smallest and largest value of each parameter.
    """
    from scipy.optimize import minimize

    def objective(parameters: Floats) -> tuple[float, Floats]:
        predicted, derivatives = model(parameters)
        residuals = predicted - log_loss
        slope = np.clip(residuals, -DELTA, DELTA)
        return huber_sum(residuals) / DELTA**2, slope @ derivatives / DELTA**2

    ranked = sorted(starts, key=lambda start: objective(start)[0])[:_BEST_STARTS]
    options = {"maxiter": 2000, "maxfun": 4000, "ftol": 1e-13, "gtol": 1e-8}
    settings = {"jac": True, "method": "L-BFGS-B", "bounds": bounds, "options": options}
    best = min((minimize(objective, s, **settings) for s in ranked), key=lambda fit: fit.fun)
    # The memory of L-BFGS is restarted, until this no longer helps.
    for _ in range(20):
        again = minimize(objective, best.x, **settings)
        improved = again.fun < best.fun * (1 - 1e-9)
        best = again if again.fun < best.fun else best
        if not improved:
            break
    return np.asarray(best.x, dtype=float)


def logsumexp(terms: Floats) -> tuple[Floats, Floats]:
    """Return log of the sum of exp over the first axis of terms [K, R], and its softmax [K, R]."""
    top = terms.max(axis=0)
    powers = np.exp(terms - top)
    total = powers.sum(axis=0)
    return top + np.log(total), powers / total
