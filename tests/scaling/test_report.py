"""Reports of all laws of a table; a law that the table does not determine has a reason."""

from __future__ import annotations

import pytest
from helpers.scaling import REPLICATION, isoflop_table

from graphformer.scaling import RunTable, report_laws


def test_optimum_uses_the_table_s_own_flops_per_token() -> None:
    """Twice as many FLOPs per token make the optimal size at a budget that of half the budget."""
    runs = isoflop_table(budgets=3, sizes=5)
    double = RunTable.build(N=runs.N, D=runs.D, C=2 * runs.C, loss=runs.loss)
    parametric = report_laws(double, flops=[1e21], resamples=0)[0]
    assert parametric.values["N at 1e+21"] == pytest.approx(REPLICATION.optimum(5e20)[0], rel=0.01)
    assert not parametric.intervals


def test_reasons_of_laws_that_are_not_determined() -> None:
    runs = isoflop_table(budgets=1, sizes=5)
    reports = {each.name: each for each in report_laws(runs, resamples=3)}
    assert reports["parametric"].law is None
    assert "got 5 runs of 5 sizes, expected 6" in reports["parametric"].reason
    assert "got 1 budgets with a minimum, expected 2" in reports["isoflop"].reason
    assert reports["kaplan"].law is not None
    assert reports["kaplan"].held_out is None  # four runs are too few
