"""`graphformer trust`: a report on whether a trained model can be relied on."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from graphformer.cli.config.command_parser import CommandParser, whole_number
from graphformer.cli.errors import UsageError

if TYPE_CHECKING:
    from graphformer.tasks.text.safety import Toxicity
    from graphformer.trust import Report, Run

SECTION_NAMES = (
    "calibration",
    "consistency",
    "explanation",
    "fairness",
    "leaks",
    "privacy",
    "robustness",
    "safety",
)


def main(argv: Sequence[str]) -> int:
    """Write report.html, report.json and README.md into a folder; return 0.

    Raises:
        UsageError: when the arguments, the checkpoint or the data are wrong.
    """
    arguments = _parse(argv)
    from graphformer.cli.checkpoints import restore_task, store_temperature
    from graphformer.cli.config.arguments import find_checkpoint
    from graphformer.cli.console import print_metrics
    from graphformer.cli.errors import plain_errors
    from graphformer.cli.run_data import restore_data
    from graphformer.trust import Run

    with plain_errors():
        ckpt = find_checkpoint(arguments.ckpt, "trust")
        task = restore_task(ckpt)
        data = restore_data(ckpt, arguments.config)
        options = {"seed": arguments.seed, "max_batches": arguments.max_batches}
        prompts, toxicity = _safety_options(arguments)
        run = Run(task, data, group=arguments.group, prompts=prompts, toxicity=toxicity, **options)
        report = _report(run, ckpt, arguments.only)
        _write(report, Path(arguments.out))
        for section in report.sections:
            if section.metrics:
                print_metrics([section.metrics], section.title)
            temperature = section.metrics.get("temperature")
            if temperature is not None and arguments.config is None:
                store_temperature(ckpt, temperature)
                print(f"stored the temperature {temperature:.4g} in {ckpt}, for `predict`")
    print(f"wrote {arguments.out}/report.html, report.json and README.md")
    return 0


def _safety_options(arguments: argparse.Namespace) -> tuple[list[str], Toxicity | None]:
    """Return the prompts to refuse, and the toxicity by a file of words."""
    from graphformer.cli.commands.safety import read_prompt_list
    from graphformer.tasks.text.safety import Lexicon

    prompts = (
        [] if arguments.prompts is None else read_prompt_list(arguments.prompts, "prompt", None)
    )
    return prompts, None if arguments.toxicity is None else Lexicon(arguments.toxicity)


def _report(run: Run, ckpt: Path, names: Sequence[str]) -> Report:
    from graphformer import __version__
    from graphformer.trust import Report
    from graphformer.trust.sections import SECTIONS

    network = run.task.network
    facts = {
        "task": type(run.task).__name__,
        "network": type(network).__name__,
        "parameters": f"{sum(p.numel() for p in network.parameters()):,}",
        "adjacency": str(run.task.adjacency),
        "data": type(run.data).__name__,
        "checkpoint": str(ckpt),
        "graphformer": __version__,
    }
    folder = ckpt.resolve().parent.parent  # runs/<experiment>/<run>/checkpoints/best.ckpt
    title = f"{folder.parent.name}, run {folder.name}"
    return Report(title, facts, [SECTIONS[name](run) for name in names])


def _write(report: Report, folder: Path) -> None:
    from graphformer.cli.run_dir import write_atomically
    from graphformer.trust import model_card, render_html

    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "report.html", render_html(report))
    content = json.dumps(report.to_json(), indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(folder / "report.json", content + "\n")
    write_atomically(folder / "README.md", model_card(report))


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = CommandParser("trust", "Report whether a trained model can be relied on.")
    add = parser.add_argument
    add("--ckpt", required=True, help="a checkpoint, or the folder of a run")
    add("-c", "--config", help="data, such as datasets/X.yaml; otherwise the run's")
    add("--only", nargs="+", choices=SECTION_NAMES, default=SECTION_NAMES, help="the sections")
    add("--out", default="report", help="the folder to write")
    add("--max-batches", type=whole_number(1), help="maximum number of batches of each split")
    add("--group", help="fairness: a column of the data, or a field of its batches")
    add("--prompts", help="safety: prompts to refuse; .txt with one a line, JSON lines or a table")
    add("--toxicity", help="safety: a file of words that make an answer toxic")
    add("--seed", type=int, default=0, help="of all random draws")
    arguments = parser.parse_args(list(argv))
    if Path(arguments.out).is_file():
        raise UsageError(f"trust: --out: got the file {arguments.out}, expected a folder")
    return arguments
