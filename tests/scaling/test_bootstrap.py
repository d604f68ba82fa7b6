"""Bootstrap intervals and the prediction of the largest run."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.scaling import CHINCHILLA, isoflop_table

from graphformer.scaling import RunTable, bootstrap, fit_parametric, hold_out_largest


def mean_loss(runs: RunTable) -> dict[str, float]:
    return {"mean": float(runs.loss.mean())}


def test_interval_of_a_mean_is_that_of_the_normal_distribution() -> None:
    loss = np.random.default_rng(3).normal(7, 0.5, size=211)
    runs = RunTable.build(N=np.ones(211), D=np.ones(211), loss=loss)
    low, high = bootstrap(runs, mean_loss, resamples=997)["mean"]
    width = 2 * 1.96 * loss.std() / np.sqrt(211)
    assert high - low == pytest.approx(width, rel=0.1)
    assert low < loss.mean() < high
    assert bootstrap(runs, mean_loss, resamples=13) == bootstrap(runs, mean_loss, resamples=13)


def test_no_interval_where_most_resamples_are_refused() -> None:
    def refuse(runs: RunTable) -> dict[str, float]:
        raise ValueError("never")

    assert bootstrap(isoflop_table(), refuse, resamples=7) == {}


def test_the_largest_run_is_predicted_without_it() -> None:
    runs = isoflop_table(CHINCHILLA)
    row = int(runs.C.argmax())
    loss = runs.loss.copy()
    loss[row] *= 1.25  # the law does not see it
    held = hold_out_largest(RunTable(runs.N, runs.D, runs.C, loss), fit_parametric)
    assert held.row == row
    assert held.error == pytest.approx(1 / 1.25 - 1, abs=1e-3)
