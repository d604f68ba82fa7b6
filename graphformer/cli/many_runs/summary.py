"""Mean and standard deviation over seeds and folds, as a table and as files."""

from __future__ import annotations

import json
import os
import platform
import shlex
from collections.abc import Mapping, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from rich.console import Console
from rich.table import Table

import graphformer

_LIBRARIES = ("torch", "lightning", "torch-geometric", "numba", "numpy")


def summarize(results: Sequence[dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Return statistics of each metric over runs; deviations are sample deviations (n - 1).

    "deviation" is over all runs, "over seeds" the mean over folds of the deviation among the seeds
    of a fold, and "over folds" the deviation of the folds' means. A deviation of fewer than two
    values is None.
    """
    metrics = {name: None for result in results for name in result["metrics"]}
    return {name: _statistics(results, name) for name in metrics}


def _statistics(results: Sequence[dict[str, Any]], name: str) -> dict[str, float | None]:
    runs = [result for result in results if name in result["metrics"]]
    values = [run["metrics"][name] for run in runs]
    folds: dict[Any, list[float]] = {}
    for run in runs:
        folds.setdefault(run["fold"], []).append(run["metrics"][name])
    among_seeds = [stdev(fold) for fold in folds.values() if len(fold) > 1]
    return {
        "mean": fmean(values),
        "deviation": _deviation(values),
        "over seeds": fmean(among_seeds) if among_seeds else None,
        "over folds": _deviation([fmean(fold) for fold in folds.values()]),
        "min": min(values),
        "max": max(values),
    }


def _deviation(values: list[float]) -> float | None:
    return stdev(values) if len(values) > 1 else None


def print_summary(folder: Path, results: Sequence[dict[str, Any]]) -> None:
    """Print the table of statistics."""
    head, *rows = _table(results)
    table = Table(*head)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    print(f"{_runs(results)}; saved in {folder / 'results.json'} and results.md")


def write_summary(
    folder: Path,
    command: Sequence[str],
    results: Sequence[dict[str, Any]],
    failures: Mapping[str, str] | None = None,
) -> None:
    """Write `results.json` with all runs, and `results.md` with the table of statistics."""
    from graphformer.cli.run_dir import write_atomically

    report = {
        "command": shlex.join(["graphformer", *command]),
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "versions": versions(),
        "summary": summarize(results),
        "failed": dict(failures or {}),
        "runs": list(results),
    }
    write_atomically(folder / "results.json", json.dumps(report, indent=2) + "\n")
    head, *rows = _table(results)
    lines = [f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows]]
    text = "\n".join([f"`{report['command']}`", "", *lines, "", f"{_runs(results)}.", ""])
    write_atomically(folder / "results.md", text)


def versions() -> dict[str, str]:
    """Return the versions of Python, this package and its libraries."""
    libraries = {name: version(name) for name in _LIBRARIES}
    python = platform.python_version()
    return {"python": python, "graphformer": graphformer.__version__, **libraries}


def _table(results: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Return the head and one row per metric; a statistic that is None for all has no column."""
    summary = summarize(results)
    rows = list(summary.values())
    columns = [c for c in rows[0] if any(statistics[c] is not None for statistics in rows)]
    body = [[name, *(_number(row[c]) for c in columns)] for name, row in summary.items()]
    return [["metric", *columns], *body]


def _runs(results: Sequence[dict[str, Any]]) -> str:
    seconds = [result["seconds"] for result in results]
    folds = {result["fold"] for result in results} - {None}
    seeds = {result["seed"] for result in results}
    shape = f"{len(folds)} folds x {len(seeds)} seeds" if folds else f"{len(seeds)} seeds"
    mean = f"{fmean(seconds):.1f} s a run on average ({max(seconds):.1f} at most)"
    return f"{len(results)} runs ({shape}), {mean}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
