"""Synthetic tables of runs that follow a known scaling law."""

from __future__ import annotations

import math

import numpy as np

from graphformer.scaling import ParametricLaw, RunTable

CHINCHILLA = ParametricLaw(
    E=math.exp(0.5267228), A=math.exp(6.0073404), B=math.exp(6.0179186),
    alpha=0.33917084, beta=0.2849083,
)  # fmt: skip
"""Unrounded constants of Hoffmann et al. 2022."""
REPLICATION = ParametricLaw(E=1.817, A=482.0, B=2085.0, alpha=0.348, beta=0.366)
"""Besiroglu et al. 2024, on 240 points."""


def isoflop_table(
    law: ParametricLaw = REPLICATION, *, noise: float = 0.0, budgets: int = 5, sizes: int = 7
) -> RunTable:
    """Runs at budgets of 6e18 to 3e21 FLOPs, with sizes around the optimal one."""
    generator = np.random.default_rng(0)
    flops = np.repeat(np.geomspace(6e18, 3e21, budgets), sizes)
    optimal = np.array([law.optimum(each)[0] for each in flops])
    N = optimal * np.tile(np.geomspace(0.2, 5, sizes), budgets)
    D = flops / (6 * N)
    loss = law.predict(N, D) * np.exp(noise * generator.normal(size=len(N)))
    return RunTable.build(N=N, D=D, C=flops, loss=loss)
