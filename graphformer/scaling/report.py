"""All scaling laws of a table of runs, with intervals, prediction errors and optima."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from graphformer.scaling.bootstrap import HeldOut, bootstrap, hold_out_largest
from graphformer.scaling.isoflop import IsoFLOP, fit_isoflop
from graphformer.scaling.kaplan import KaplanLaw, fit_kaplan
from graphformer.scaling.parametric import ParametricLaw, fit_parametric
from graphformer.scaling.table import RunTable


@dataclass(frozen=True)
class LawReport:
    """One law of a table of runs.

    Attributes:
        name: "parametric", "isoflop" or "kaplan".
        law: the fitted law; None if the table does not determine it.
        values: constants, and size and tokens of each budget that was asked for.
        intervals: bootstrap intervals of the values.
        held_out: prediction of the largest run; None for IsoFLOP, which predicts no loss.
        reason: why there is no law.
    """

    name: str
    law: ParametricLaw | IsoFLOP | KaplanLaw | None = None
    values: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    held_out: HeldOut | None = None
    reason: str = ""


def report_laws(
    runs: RunTable, *, flops: Sequence[float] = (), resamples: int = 200, seed: int = 0
) -> list[LawReport]:
    """Return the parametric law, the IsoFLOP profiles and Kaplan's power laws of a table.

    Args:
        runs: the table.
        flops: budgets whose optimal size and tokens are reported.
        resamples: number of resampled tables of the bootstrap; 0 for no intervals.
        seed: of the bootstrap.
    """
    intervals = partial(bootstrap, runs, resamples=resamples, seed=seed)
    return [
        _report("parametric", partial(_parametric, runs, flops, intervals)),
        _report("isoflop", partial(_isoflop, runs, flops, intervals)),
        _report("kaplan", partial(_kaplan, runs, flops, intervals)),
    ]


_Intervals = Callable[[Callable[[RunTable], dict[str, float]]], dict[str, tuple[float, float]]]


def _report(name: str, make: Callable[[], LawReport]) -> LawReport:
    try:
        return make()
    except ValueError as error:
        return LawReport(name, reason=str(error))


def _parametric(runs: RunTable, flops: Sequence[float], intervals: _Intervals) -> LawReport:
    law = fit_parametric(runs)

    def estimate(table: RunTable) -> dict[str, float]:
        return _values(fit_parametric(table, law), flops, table)

    values, held_out = _values(law, flops, runs), _held_out(runs, fit_parametric)
    return LawReport("parametric", law, values, intervals(estimate), held_out)


def _kaplan(runs: RunTable, flops: Sequence[float], intervals: _Intervals) -> LawReport:
    law = fit_kaplan(runs)

    def estimate(table: RunTable) -> dict[str, float]:
        return _values(fit_kaplan(table, law), flops, table)

    values, held_out = _values(law, flops, runs), _held_out(runs, fit_kaplan)
    return LawReport("kaplan", law, values, intervals(estimate), held_out)


def _isoflop(runs: RunTable, flops: Sequence[float], intervals: _Intervals) -> LawReport:
    law = fit_isoflop(runs)

    def estimate(table: RunTable) -> dict[str, float]:
        return _values(fit_isoflop(table), flops, table)

    return LawReport("isoflop", law, _values(law, flops, runs), intervals(estimate))


def _held_out(
    runs: RunTable, fit: Callable[[RunTable], ParametricLaw] | Callable[[RunTable], KaplanLaw]
) -> HeldOut | None:
    try:
        return hold_out_largest(runs, fit)
    except ValueError:  # without it, the runs are too few
        return None


def _values(
    law: ParametricLaw | KaplanLaw | IsoFLOP, flops: Sequence[float], runs: RunTable
) -> dict[str, float]:
    """Return the constants of a law and its optimum at each budget."""
    values = dict(law.parameters)
    for budget in flops:
        if isinstance(law, IsoFLOP):
            size, tokens = law.optimum(budget)
        else:
            size, tokens = law.optimum(budget, runs.flops_factor)
        optimum = {"N": size, "D": tokens, "D/N": tokens / size}
        values.update({f"{name} at {budget:g}": value for name, value in optimum.items()})
    return values
