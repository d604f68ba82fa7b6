"""`graphformer scaling`: trains models of several sizes, fits and plots their scaling laws."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from graphformer.cli.config.command_parser import CommandParser, number, output_file, whole_number
from graphformer.cli.errors import UsageError

if TYPE_CHECKING:
    from graphformer.scaling import LawReport, RunTable
    from graphformer.scaling.table import Column

_COLUMNS: tuple[Column, ...] = ("N", "D", "C", "loss")


def main(argv: Sequence[str]) -> int:
    """Train models of several sizes, or fit or plot scaling laws; return 0.

    Raises:
        UsageError: when the arguments or the table are wrong, or no law can be fitted.
    """
    if list(argv[:1]) == ["run"]:
        return _run(argv[1:])
    arguments = _parse(argv)
    tables = {_name(path, arguments.table): _read(path, arguments) for path in arguments.table}
    reports = {name: _report(name, table, arguments) for name, table in tables.items()}
    for name, laws in reports.items():
        _print(name, tables[name], laws)
    if arguments.action == "plot":
        from graphformer.cli.plots.saving import save_figure
        from graphformer.scaling import draw_laws

        figure = draw_laws({name: (tables[name], reports[name]) for name in tables})
        save_figure(figure, arguments.out, dpi=130)
    elif arguments.out is not None:
        from graphformer.cli.run_dir import write_atomically

        text = {name: [_as_json(law) for law in laws] for name, laws in reports.items()}
        write_atomically(arguments.out, json.dumps(text, indent=2) + "\n")
    if arguments.out is not None:
        print(f"wrote {arguments.out}")
    return 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = CommandParser(
        "scaling",
        "Fit scaling laws to a CSV of runs with loss and two of N, D and C."
        " `scaling run` makes one.",
    )
    parser.add_argument("action", choices=("fit", "plot"), help="fit laws, or also draw them")
    parser.add_argument("table", type=Path, nargs="+", help="CSV files of runs, one per law")
    parser.add_argument(
        "--flops", type=number(0, low_included=False), nargs="*", default=[],
        help="budgets whose optimal size and tokens are shown",
    )  # fmt: skip
    parser.add_argument(
        "--columns", nargs="*", default=[], metavar="N=NAME",
        help="names of the columns N, D, C and loss, where they are not usual",
    )  # fmt: skip
    parser.add_argument(
        "--bootstrap", type=whole_number(0), default=200, help="resampled tables, 0 for none"
    )
    parser.add_argument("--seed", type=whole_number(0), default=0, help="of the bootstrap")
    parser.add_argument(
        "--out", type=output_file(), help="fit: a JSON file; plot: a .png file, scaling.png"
    )
    arguments = parser.parse_args(argv)
    if arguments.action == "plot":
        arguments.out = arguments.out or Path("scaling.png")
        if arguments.out.suffix.lower() != ".png":
            parser.error(f"--out: got {arguments.out}, expected a name that ends in .png")
    return arguments


def _run(argv: Sequence[str]) -> int:
    parser = CommandParser(
        "scaling run", "Train models of several depths; other options are those of fit."
    )
    parser.allow_abbrev = False
    parser.add_argument(
        "--depths", type=whole_number(1), nargs="+", required=True, help="numbers of blocks"
    )
    parser.add_argument("--width", type=whole_number(1), default=64, help="channels per block")
    parser.add_argument(
        "--ratios", type=number(0, low_included=False), nargs="+", default=[5.0, 10.0, 20.0, 40.0],
        help="training tokens per parameter of the blocks",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=output_file(), default=Path("scaling.csv"), help="the CSV of runs"
    )
    arguments, words = parser.parse_known_args(argv)
    from graphformer.cli.many_runs.scaling_runs import run_sizes

    return run_sizes(
        words, arguments.depths, arguments.ratios, width=arguments.width, out=arguments.out
    )


def _name(path: Path, paths: Sequence[Path]) -> str:
    """Return the file's stem, or its whole path if another file has the same stem."""
    is_unique = sum(other.stem == path.stem for other in paths) == 1
    return path.stem if is_unique else str(path)


def _read(path: Path, arguments: argparse.Namespace) -> RunTable:
    from graphformer.scaling import read_table

    columns: dict[Column, str] = {}
    for pair in arguments.columns:
        kind, _, name = pair.partition("=")
        if kind not in _COLUMNS or not name:
            raise UsageError(f"--columns: got {pair!r}, expected N=NAME, D=, C= or loss=")
        columns[kind] = name
    try:
        return read_table(path, columns)
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from error


def _report(name: str, table: RunTable, arguments: argparse.Namespace) -> list[LawReport]:
    from rich.console import Console

    from graphformer.scaling import report_laws

    resampled = f" and {arguments.bootstrap} resampled tables" if arguments.bootstrap else ""
    with Console(stderr=True).status(f"fitting {name}{resampled}"):
        laws = report_laws(
            table, flops=arguments.flops, resamples=arguments.bootstrap, seed=arguments.seed
        )
    if all(law.law is None for law in laws):
        raise UsageError("; ".join(f"{law.name}: {law.reason}" for law in laws))
    return laws


def _print(name: str, table: RunTable, laws: Sequence[LawReport]) -> None:
    from rich.console import Console
    from rich.table import Table

    print(f"{name}: {len(table)} runs, C = {table.flops_factor:.3g} N D (geometric mean)")
    shown = Table("law", "constant", "value", "95 % interval")
    notes = []
    for law in laws:
        for constant, value in law.values.items():
            interval = law.intervals.get(constant)
            span = "" if interval is None else f"{interval[0]:.4g} to {interval[1]:.4g}"
            shown.add_row(law.name, constant, f"{value:.4g}", span)
        shown.add_section()
        notes += _notes(law)
    Console().print(shown)
    print("\n".join(notes))


def _notes(law: LawReport) -> list[str]:
    """Return sentences about refusals and the held-out run."""
    from graphformer.scaling import IsoFLOP

    if law.law is None:
        return [f"{law.name}: not fitted; {law.reason}"]
    lines = []
    if isinstance(law.law, IsoFLOP):
        lines = [f"isoflop: {flops:.3g} refused: {why}" for flops, why in law.law.refused.items()]
    if law.held_out is not None:
        held = law.held_out
        lines.append(
            f"{law.name}: largest run held out: predicted {held.predicted:.4f}, "
            f"observed {held.observed:.4f}, error {held.error:+.2%}"
        )
    return lines


def _as_json(law: LawReport) -> dict[str, object]:
    held = None if law.held_out is None else {**asdict(law.held_out), "error": law.held_out.error}
    return {
        "law": law.name,
        "values": law.values,
        "intervals": law.intervals,
        "held_out": held,
        "reason": law.reason,
    }
