"""The parametric law: published optima, and known constants recovered from synthetic runs."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.scaling import CHINCHILLA, REPLICATION, isoflop_table

from graphformer.scaling import ParametricLaw, RunTable, fit_parametric

ROUNDED = ParametricLaw(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)
FLOPS = 5.88e23


@pytest.mark.parametrize(
    ("law", "tokens_per_parameter"), [(CHINCHILLA, 59), (ROUNDED, 93), (REPLICATION, 18)]
)
def test_published_optima(law: ParametricLaw, tokens_per_parameter: int) -> None:
    size, tokens = law.optimum(FLOPS)
    assert round(tokens / size) == tokens_per_parameter
    assert 6 * size * tokens == pytest.approx(FLOPS)


@pytest.mark.parametrize("factor", [6.0, 7.3])
def test_no_other_size_is_better_than_the_optimum(factor: float) -> None:
    size, tokens = CHINCHILLA.optimum(1e21, factor)
    others = size * np.geomspace(0.5, 2, 41)
    losses = CHINCHILLA.predict(others, 1e21 / (factor * others))
    assert losses.argmin() == 20
    assert losses[20] == pytest.approx(float(CHINCHILLA.predict(size, tokens)))


@pytest.mark.parametrize(("law", "noise"), [(CHINCHILLA, 0.0), (REPLICATION, 0.001)])
def test_known_laws_are_recovered(law: ParametricLaw, noise: float) -> None:
    fitted = fit_parametric(isoflop_table(law, noise=noise, sizes=11))
    assert fitted.E == pytest.approx(law.E, rel=0.02)
    assert fitted.alpha == pytest.approx(law.alpha, abs=0.02)
    assert fitted.beta == pytest.approx(law.beta, abs=0.02)


def test_an_outlier_counts_little() -> None:
    runs = isoflop_table(CHINCHILLA)
    loss = runs.loss.copy()
    loss[13] *= 1.5
    fitted = fit_parametric(RunTable.build(N=runs.N, D=runs.D, loss=loss))
    assert fitted.E == pytest.approx(CHINCHILLA.E, rel=0.02)


def test_no_irreducible_loss_is_zero_and_resamples_may_find_one() -> None:
    law = ParametricLaw(E=0.0, A=3.0, B=130.0, alpha=0.09, beta=0.4)
    N, D = (grid.flatten() for grid in np.meshgrid([2e4, 4e4, 7e4, 1.1e5], [1e5, 4e5, 2e6, 7e6]))
    fitted = fit_parametric(RunTable.build(N=N, D=D, loss=law.predict(N, D)))
    assert fitted.E == 0
    assert fitted.alpha == pytest.approx(law.alpha, abs=0.005)
    other = RunTable.build(N=N, D=D, loss=CHINCHILLA.predict(N, D))
    again = fit_parametric(other, fitted)  # starts from E = 0
    assert again.E == pytest.approx(fit_parametric(other).E, rel=0.01)


def test_too_few_runs() -> None:
    runs = isoflop_table(budgets=1, sizes=5)
    with pytest.raises(ValueError, match="runs: got 5 runs of 5 sizes, expected 6 or more"):
        fit_parametric(runs)
