"""IsoFLOP parabolas: their minima, the exponents through them, and budgets that are refused."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.scaling import REPLICATION, isoflop_table

from graphformer.scaling import RunTable, fit_isoflop


def test_exponents_of_a_known_law() -> None:
    law = fit_isoflop(isoflop_table())
    expected = REPLICATION.parameters
    assert law.size.exponent == pytest.approx(expected["N ~ C^"], abs=0.01)
    assert law.tokens.exponent == pytest.approx(expected["D ~ C^"], abs=0.01)
    assert len(law.minima) == 5
    assert not law.refused
    size, tokens = law.optimum(1e21)
    assert 6 * size * tokens == pytest.approx(1e21, rel=0.01)


def test_vertex_of_a_parabola() -> None:
    sizes, flops = np.array([2.0, 3.0, 5.0, 7.0]) * 1e6, np.array([1e15, 1e17])
    N, C = np.tile(sizes, 2), np.repeat(flops, 4)
    best = np.where(C == 1e15, 3.7e6, 4.1e6)
    law = fit_isoflop(RunTable.build(N=N, C=C, loss=1.9 + 0.3 * np.log(N / best) ** 2))
    assert [minimum.N for minimum in law.minima] == pytest.approx([3.7e6, 4.1e6])
    assert [minimum.loss for minimum in law.minima] == pytest.approx([1.9, 1.9])


def test_minima_at_the_edge_are_refused() -> None:
    runs = isoflop_table()
    is_last = np.isclose(runs.C, runs.C.max())
    cut = runs.select(~is_last | (runs.N <= np.sort(runs.N[is_last])[3]))
    law = fit_isoflop(cut)
    assert list(law.refused) == [pytest.approx(3e21)]
    assert "the smallest loss is at the edge of the sizes" in law.refused.popitem()[1]
    assert len(law.minima) == 4


def test_runs_without_common_budgets_are_refused() -> None:
    flops = np.geomspace(1e18, 1e19, 53)
    with pytest.raises(ValueError, match="differ in FLOPs by a factor of 10"):
        fit_isoflop(RunTable.build(N=np.geomspace(1e6, 1e7, 53), C=flops, loss=np.ones(53)))
