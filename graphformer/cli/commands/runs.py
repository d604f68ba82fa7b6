"""`graphformer runs`: a table of runs with the settings that differ and their results."""

from __future__ import annotations

import argparse
import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from graphformer.cli.config.command_parser import CommandParser, output_file
from graphformer.cli.errors import UsageError
from graphformer.cli.many_runs.recorded import (
    Recorded,
    Value,
    differing,
    find_runs,
    lower_is_better,
    metric_names,
    read_run,
)
from graphformer.options import suggestion

_SHOWN = 8  # most settings in the table; the file of --out has all


def main(argv: Sequence[str]) -> int:
    """Print the runs of a folder, or compare two runs; return 0.

    Raises:
        UsageError: when a folder contains no run, or nothing has the name to sort by.
    """
    arguments = _parse(argv)
    if arguments.compare:
        first, second = (_named_run(Path(name), arguments.folder) for name in arguments.compare)
        return _compare(first, second, arguments)
    runs = _sorted(find_runs(arguments.folder), arguments.sort, reverse=arguments.reverse)
    settings, metrics = differing(runs), metric_names(runs)
    shown = settings if len(settings) <= _SHOWN else _most_shared(runs, settings)
    _print_runs(runs, shown, metrics)
    if len(shown) < len(settings):
        hidden = [name for name in settings if name not in shown]
        print(f"{len(hidden)} more settings differ: --out FILE.csv writes all")
    if arguments.out is not None:
        rows = [
            [r.name, *map(r.settings.get, settings), *map(r.results.get, metrics)] for r in runs
        ]
        _write(arguments.out, [["run", *settings, *metrics], *rows])
    return 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = CommandParser("runs", "Show what was run, with which settings and results.")
    parser.add_argument("folder", type=Path, nargs="?", default=Path("runs"), help="of the runs")
    parser.add_argument("--sort", help="a metric or setting; of a metric, the best is first")
    parser.add_argument("--reverse", action="store_true", help="sort the other way round")
    parser.add_argument("--compare", nargs=2, metavar="RUN", help="folders of two runs")
    parser.add_argument("--all", action="store_true", help="compare: also show equal settings")
    parser.add_argument("--out", type=output_file(), help="a CSV file of the whole table")
    return parser.parse_args(argv)


def _named_run(path: Path, root: Path) -> Recorded:
    """Return the run of a path, which may also be relative to the folder of runs."""
    return read_run(path if path.is_dir() or not (root / path).is_dir() else root / path)


def _sorted(runs: list[Recorded], name: str | None, *, reverse: bool) -> list[Recorded]:
    """Sort by a metric or setting; runs without it come last."""
    if name is None:
        return runs[::-1] if reverse else runs
    known = {key for run in runs for key in (*run.settings, *run.results)}
    if name not in known:
        raise UsageError(f"--sort: got {name!r}, expected a metric or setting"
                         f"{suggestion(name, sorted(known))}")  # fmt: skip
    is_metric = any(name in run.results for run in runs)
    lowest_first = not is_metric or lower_is_better(name)

    def value(run: Recorded) -> Value:
        return run.results.get(name, run.settings.get(name))

    given = [run for run in runs if value(run) is not None]
    missing = [run for run in runs if value(run) is None]

    def rank(run: Recorded) -> tuple[bool, float, str]:
        number = value(run)
        is_number = isinstance(number, int | float) and number == number  # NaN is last
        return (is_number == (lowest_first == reverse), float(number or 0) if is_number else 0.0,
                "" if is_number else str(number))  # fmt: skip

    return [*sorted(given, key=rank, reverse=lowest_first == reverse), *missing]


def _most_shared(runs: Sequence[Recorded], settings: Sequence[str]) -> list[str]:
    """Return the settings that most runs have, in their order."""
    count = Counter(key for run in runs for key in run.settings)
    chosen = set(sorted(settings, key=lambda name: -count[name])[:_SHOWN])
    return [name for name in settings if name in chosen]


def _print_runs(runs: Sequence[Recorded], settings: Sequence[str], metrics: Sequence[str]) -> None:
    """Print a table; values that differ from the most frequent one of a setting are bold."""
    from rich.table import Table

    usual = {
        name: Counter(_text(run.settings.get(name)) for run in runs).most_common(1)[0][0]
        for name in settings
    }
    table = Table("run", *settings, *metrics)
    for run in runs:
        values = [_text(run.settings.get(name)) for name in settings]
        marked = [
            _bold(text) if text != usual[name] else _plain(text)
            for name, text in zip(settings, values, strict=True)
        ]
        table.add_row(_plain(run.name), *marked, *(_number(run.results.get(m)) for m in metrics))
    _show(table)


def _compare(first: Recorded, second: Recorded, arguments: argparse.Namespace) -> int:
    """Print settings and results of two runs side by side; differing settings are bold."""
    from rich.table import Table

    runs = [first, second]
    unequal = differing(runs)
    everything = dict.fromkeys(key for run in runs for key in run.settings)
    settings = list(everything) if arguments.all else unequal
    metrics = metric_names(runs)
    table = Table("", _plain(first.name), _plain(second.name))
    for name in settings:
        style = _bold if name in unequal else _plain
        table.add_row(style(name), *(style(_text(run.settings.get(name))) for run in runs))
    table.add_section()
    for name in metrics:
        table.add_row(name, *(_number(run.results.get(name)) for run in runs))
    _show(table)
    print(f"{len(unequal)} settings differ, {len(everything) - len(unequal)} are equal")
    if arguments.out is not None:
        rows = [[name, *(run.settings.get(name) for run in runs)] for name in settings]
        rows += [[name, *(run.results.get(name) for run in runs)] for name in metrics]
        _write(arguments.out, [["", first.name, second.name], *rows])
    return 0


def _show(table: object) -> None:
    from rich.console import Console

    console = Console()
    (console if console.is_terminal else Console(width=240)).print(table)


def _write(path: Path, rows: Sequence[Sequence[Value]]) -> None:
    from graphformer.cli.run_dir import write_atomically

    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_atomically(path, text.getvalue())
    print(f"wrote {path}")


def _text(value: Value) -> str:
    """Return a short text; of a class path, its last part."""
    if value is None:
        return "-"
    if isinstance(value, str) and value.startswith("graphformer."):
        return value.rpartition(".")[2]
    return str(value)


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _bold(text: str) -> str:
    return f"[bold yellow]{_plain(text)}[/]"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
