"""`graphformer plan`: memory and FLOPs of a training step before it is run."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from graphformer.cli.config.command_parser import CommandParser, output_file, whole_number

if TYPE_CHECKING:
    from graphformer.cli.planned import Plan
    from graphformer.planning import Result

_EPILOG = """
All other options are those of fit, such as -c experiments/X.yaml --model.network.depth 96.
Without --tokens (or --nodes) the sizes are those of the largest of the first batches of the data.
"""


def main(argv: Sequence[str]) -> int:
    """Print what a training step needs, and what makes it fit; return 0.

    Raises:
        UsageError: when a setting is wrong, or sizes are neither given nor in the data.
    """
    arguments, words = _parse(argv)
    from rich.console import Console

    from graphformer.cli import console
    from graphformer.cli.errors import plain_errors
    from graphformer.cli.planned import make_plan

    status = Console(stderr=True).status("counting on shapes")
    with console.quiet(), plain_errors(), status:
        plan = make_plan(arguments, words)
    _print(plan)
    if arguments.out is not None:
        from graphformer.cli.run_dir import write_atomically

        write_atomically(arguments.out, json.dumps(plan.as_json(), indent=2) + "\n")
        print(f"wrote {arguments.out}")
    return 0


def _parse(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = CommandParser("plan", "Predict memory and FLOPs of a training step from shapes.")
    parser.epilog = _EPILOG
    parser.allow_abbrev = False
    parser.add_argument("--memory", type=_memory, help="of one device, such as 80GB")
    parser.add_argument("--devices", type=whole_number(1), help="number; that of the trainer")
    parser.add_argument(
        "--strategy", choices=("single", "ddp", "fsdp2"), help="by default that of the trainer"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), help="by default what is present")
    parser.add_argument("--precision", help="such as bf16-mixed; by default that of the trainer")
    parser.add_argument(
        "--tokens", "--nodes", dest="nodes", type=whole_number(1),
        help="tokens, patches or nodes of a sample, in place of data",
    )  # fmt: skip
    parser.add_argument("--edges", type=whole_number(0), help="of a graph, in place of data")
    parser.add_argument(
        "--samples", type=whole_number(1), default=1, help="of a batch, with --tokens"
    )
    parser.add_argument("--out", type=output_file(), help="a JSON file")
    return parser.parse_known_args(argv)


def _memory(text: str) -> int:
    from graphformer.planning.sizes import parse_bytes

    try:
        return parse_bytes(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("memory: ")) from error


def _print(plan: Plan) -> None:
    from rich.console import Console
    from rich.table import Table

    from graphformer.planning.sizes import format_bytes, format_count, format_flops

    asked, output = plan.asked, Console()
    flops = asked.step.flops
    edges = ", ".join(f"{count:,}" for count in dict.fromkeys(asked.step.edges))
    facts = Table(show_header=False, box=None, pad_edge=False)
    facts.add_row("network", f"{plan.network}, {format_count(plan.parameters)} parameters")
    facts.add_row("batch", f"{plan.samples:,} samples, {asked.step.nodes:,} nodes, {edges} edges")
    facts.add_row("training", plan.describe(asked.setting))
    facts.add_row(
        "a step",
        f"{format_flops(flops.total)}: {format_flops(flops.matmul)} in matrix products, "
        f"{format_flops(flops.attention)} in attention",
    )
    output.print(facts)
    shown = Table("memory at the peak of a step", "bytes", "share")
    for name, size in asked.peak.items():
        if size:
            shown.add_row(name, format_bytes(size), f"{size / max(asked.total, 1):.0%}")
    shown.add_section()
    shown.add_row("peak", format_bytes(asked.total), _verdict(asked, plan.memory))
    output.print(shown)
    if plan.alone:
        changes = Table("one change", "peak", "" if plan.memory is None else "fits")
        for result in plan.alone:
            verdict = _verdict(result, plan.memory)
            changes.add_row(result.changes[0], format_bytes(result.total), verdict)
        output.print(changes)
    for line in plan.conclusions():
        print(line)


def _verdict(result: Result, memory: int | None) -> str:
    if memory is None:
        return ""
    return "yes" if result.total <= memory else "no"
