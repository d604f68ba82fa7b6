"""Kaplan's power laws: known exponents recovered, the optimum, and the frontier."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.scaling import isoflop_table

from graphformer.scaling import KaplanLaw, RunTable, fit_kaplan
from graphformer.scaling.kaplan import frontier

KAPLAN = KaplanLaw(N_c=8.8e13, D_c=5.4e13, alpha_n=0.076, alpha_d=0.095)


def test_published_exponents_are_recovered() -> None:
    runs = isoflop_table()
    law = fit_kaplan(RunTable.build(N=runs.N, D=runs.D, loss=KAPLAN.predict(runs.N, runs.D)))
    assert (law.alpha_n, law.alpha_d) == pytest.approx((0.076, 0.095), abs=1e-3)
    assert np.log([law.N_c, law.D_c]) == pytest.approx(np.log([8.8e13, 5.4e13]), abs=0.3)


def test_no_other_size_is_better_than_the_optimum() -> None:
    size, tokens = KAPLAN.optimum(1e21)
    assert 6 * size * tokens == pytest.approx(1e21)
    others = size * np.geomspace(0.5, 2, 41)
    assert KAPLAN.predict(others, 1e21 / (6 * others)).argmin() == 20


def test_frontier_leaves_out_runs_that_a_cheaper_one_betters() -> None:
    runs = RunTable.build(N=[2.0, 3.0, 5.0, 7.0], C=[11, 13, 17, 19], loss=[4.0, 4.5, 3.0, 3.0])
    assert frontier(runs).C.tolist() == [11, 17]
