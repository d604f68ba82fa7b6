"""Differences between the scaling laws of two tables of runs of the same sizes and tokens.

    python experiments/scaling_differences.py triangle.csv window.csv

Rows are resampled together, so that what both runs of a size and a number of tokens share does not
widen the intervals of the differences. Also printed: the difference of each pair of runs.
"""

from __future__ import annotations

import argparse
from functools import partial

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from graphformer.scaling import KaplanLaw, ParametricLaw, fit_kaplan, fit_parametric, read_table
from graphformer.scaling.table import RunTable

Laws = tuple[ParametricLaw, KaplanLaw]


def fitted(runs: RunTable, start: Laws | None = None) -> Laws:
    """Both laws of a table, from given constants or from a grid."""
    parametric, kaplan = start or (None, None)
    return fit_parametric(runs, parametric), fit_kaplan(runs, kaplan)


def differences(
    tables: list[RunTable], starts: list[Laws], rows: NDArray[np.int64]
) -> dict[str, float]:
    """The constants of the second table less those of the first, of some rows of both."""
    first, second = (
        {
            name: value
            for law in fitted(table.select(rows), start)
            for name, value in law.parameters.items()
        }
        for table, start in zip(tables, starts, strict=True)
    )
    return {name: second[name] - first[name] for name in first if name in second}


def intervals(
    tables: list[RunTable], resamples: int
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """The differences, and those of resampled tables."""
    of_rows = partial(differences, tables, [fitted(table) for table in tables])
    count, generator = len(tables[0]), np.random.default_rng(0)
    samples: dict[str, list[float]] = {}
    for _ in track(range(resamples), description="resampled tables", transient=True):
        try:
            found = of_rows(generator.integers(count, size=count))
        except ValueError:  # too few sizes or numbers of tokens
            continue
        for name, value in found.items():
            samples.setdefault(name, []).append(value)
    return of_rows(np.arange(count)), samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs=2, help="CSV files of runs, in the same order")
    parser.add_argument("--bootstrap", type=int, default=300, help="resampled tables")
    arguments = parser.parse_args()
    tables = [read_table(path) for path in arguments.tables]
    if not all(np.array_equal(getattr(tables[0], x), getattr(tables[1], x)) for x in ("N", "D")):
        parser.error("tables: got different sizes or tokens, expected the same in each row")
    found, samples = intervals(tables, arguments.bootstrap)
    shown = Table("constant", "difference", "95 % interval")
    for name in ("E", "alpha", "beta", "N ~ C^", "alpha_N", "alpha_D", "alpha_C"):
        low, high = np.percentile(samples[name], [2.5, 97.5])
        shown.add_row(name, f"{found[name]:+.3f}", f"{low:+.3f} to {high:+.3f}")
    Console().print(shown)
    pairs = Table("parameters", "tokens", "difference of the losses")
    for size, tokens, first, second in zip(
        tables[0].N, tables[0].D, tables[0].loss, tables[1].loss, strict=True
    ):
        pairs.add_row(f"{size:,.0f}", f"{tokens:,.0f}", f"{second - first:+.4f}")
    Console().print(pairs)


if __name__ == "__main__":
    main()
