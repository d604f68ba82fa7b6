"""`graphformer draw`: plots of a trained network or of a run's training curves, as PNG."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from graphformer.cli.config.command_parser import CommandParser, output_file, whole_number
from graphformer.cli.errors import UsageError

KINDS = ("attention", "reconstruction", "words", "retrieval", "answers", "curves")


def main(argv: Sequence[str]) -> int:
    """Draw a figure, write it, and print its path; return 0.

    Raises:
        UsageError: when the arguments, the checkpoint or the data are wrong.
    """
    arguments = _parse(argv)
    from graphformer.cli.config.arguments import find_checkpoint
    from graphformer.cli.errors import plain_errors
    from graphformer.cli.plots.saving import save_figure

    with plain_errors():
        if arguments.what == "curves":
            from graphformer.cli.plots.curves import draw_curves

            figure = draw_curves(Path(arguments.ckpt))
        else:
            figure = _draw(find_checkpoint(arguments.ckpt, "draw"), arguments)
        path = arguments.out or Path(f"{arguments.what or 'picture'}.png")
        save_figure(figure, path, dpi=120)
    print(f"wrote {path}")
    return 0


def _draw(ckpt: Path, arguments: argparse.Namespace) -> Any:
    from graphformer.cli.checkpoints import restore_task
    from graphformer.cli.plots.vision import default_figure, figure_functions
    from graphformer.cli.run_data import restore_data

    task = restore_task(ckpt)
    kind = arguments.what or default_figure(task.network)
    if kind is None:
        raise UsageError(f"draw: {type(task.network).__name__} does not process images")
    data = restore_data(ckpt, arguments.config)
    return figure_functions()[kind](task, data, arguments.count)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = CommandParser("draw", "Draw what a trained network computes for test images.")
    add = parser.add_argument
    add("--ckpt", required=True, help="a checkpoint, or the folder of a run")
    add("-c", "--config", help="data, such as datasets/X.yaml; otherwise the run's")
    add(
        "--what",
        choices=KINDS,
        help="attention: of the last block, and of all blocks (rollout); words: of each word of a "
        "caption; answers: to questions; curves: metrics over the training steps; by default what "
        "suits the network",
    )
    add("--count", type=whole_number(1), default=6, help="number of images")
    add("--out", type=output_file(".png"), help="the .png file to write")
    return parser.parse_args(list(argv))
