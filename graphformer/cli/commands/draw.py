"""`graphformer draw`: pictures of what a trained network sees, as PNG."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from graphformer.cli.errors import UsageError

WHAT = ("attention", "reconstruction", "words", "retrieval", "curves")


def main(argv: Sequence[str]) -> int:
    """Draw, write the picture, and say where it is; return 0.

    Raises:
        UsageError: the arguments, the checkpoint or the data are wrong.
    """
    arguments = _parse(argv)
    from graphformer.cli.config.arguments import find_checkpoint
    from graphformer.cli.errors import plain_errors

    with plain_errors():
        if arguments.what == "curves":
            from graphformer.cli.plots.curves import draw_curves

            figure = draw_curves(Path(arguments.ckpt))
        else:
            ckpt = find_checkpoint(arguments.ckpt, "draw")
            figure = _draw(ckpt, arguments)
        path = _path(arguments)
        figure.savefig(path, dpi=120)
    print(f"wrote {path}")
    return 0


def _draw(ckpt: Path, arguments: argparse.Namespace) -> Any:
    from graphformer.cli.checkpoints import restore_task
    from graphformer.cli.plots.vision import default_figure, figure_functions
    from graphformer.cli.run_data import restore_data

    task = restore_task(ckpt)
    what = arguments.what or default_figure(task.network)
    if what is None:
        raise UsageError(f"draw: {type(task.network).__name__} looks at no images")
    data = restore_data(ckpt, arguments.config)
    return figure_functions()[what](task, data, arguments.count)


def _path(arguments: argparse.Namespace) -> Path:
    if arguments.out is not None:
        path = Path(arguments.out)
        if path.suffix.lower() != ".png":
            raise UsageError(f"draw: --out {path}: expected a name that ends in .png")
        if not path.parent.is_dir():
            raise UsageError(f"draw: --out {path}: there is no folder {path.parent}")
        return path
    return Path(f"{arguments.what or 'picture'}.png")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise UsageError(f"draw: {message}")


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(
        prog="graphformer draw",
        description="Draw what a trained network sees in images of the test split.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--ckpt", required=True, help="a checkpoint, or the folder of a run")
    parser.add_argument("-c", "--config", help="data, such as datasets/X.yaml; the run's otherwise")
    parser.add_argument(
        "--what",
        choices=WHAT,
        help="attention: of the last block, and of all (rollout); words: of each word of a "
        "caption; by default what suits the network",
    )
    parser.add_argument("--count", type=int, default=6, help="how many images")
    parser.add_argument("--out", help="the picture, a .png file")
    arguments = parser.parse_args(list(argv))
    if arguments.count < 1:
        raise UsageError(f"draw: --count {arguments.count}: expected 1 or more")
    _path(arguments)
    return arguments
