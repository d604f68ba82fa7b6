"""Command-line options of the commands that do not use LightningCLI."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from graphformer.cli.errors import UsageError


class CommandParser(argparse.ArgumentParser):
    """The options of one command; argparse's errors become `UsageError`.

    Args:
        command: name of the command, which begins every message.
        description: what `--help` says of it.
    """

    def __init__(self, command: str, description: str) -> None:
        super().__init__(
            prog=f"graphformer {command}",
            description=description,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        self.command = command

    def error(self, message: str) -> NoReturn:
        """Raise the message as a `UsageError`."""
        raise UsageError(f"{self.command}: {message.removeprefix('argument ')}")


def whole_number(low: int) -> Callable[[str], int]:
    """Return a type for `add_argument` that accepts integers of `low` or more."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if value < low:
            raise argparse.ArgumentTypeError(f"got {text}, expected an integer of {low} or more")
        return value

    return parse


def output_file(*suffixes: str) -> Callable[[str], Path]:
    """Return a type for `add_argument` that accepts a file to write, before any work is done.

    Args:
        suffixes: the endings that it may have, such as ".png"; any by default.
    """

    def parse(text: str) -> Path:
        path = Path(text)
        if suffixes and path.suffix.lower() not in suffixes:
            endings = " or ".join(suffixes)
            raise argparse.ArgumentTypeError(f"got {text}, expected a name that ends in {endings}")
        if path.is_dir():
            raise argparse.ArgumentTypeError(f"got {text}, a folder, expected the name of a file")
        if not path.parent.is_dir():
            raise argparse.ArgumentTypeError(
                f"got {text}, but there is no folder {path.parent}; make it first"
            )
        return path

    return parse


def number(
    low: float, high: float = math.inf, *, low_included: bool = True
) -> Callable[[str], float]:
    """Return a type for `add_argument` that accepts finite numbers from `low` to `high`."""
    bounds = f"of at least {low:g}" if low_included else f"above {low:g}"
    if high < math.inf:
        bounds += f" and at most {high:g}"

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high or math.isinf(value) or (value == low and not low_included):
            raise argparse.ArgumentTypeError(f"got {text}, expected a number {bounds}")
        return value

    return parse
