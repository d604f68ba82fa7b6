"""What is done to a command line before LightningCLI sees it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from graphformer.cli.commands.list import catalog
from graphformer.cli.config.files import find_config
from graphformer.cli.errors import UsageError

_CONFIG = ("-c", "--config")


@dataclass(frozen=True)
class Command:
    """A command, its arguments in jsonargparse's words, its experiment's name and checkpoint."""

    name: str
    arguments: list[str]
    experiment: str | None
    ckpt: str | None


def read_command(argv: list[str]) -> Command:
    """Find configuration files, and write short forms out.

    `--adjacency X` becomes `--model.adjacency X`; a network's builder may go by its bare name.

    Raises:
        UsageError: a configuration file is missing, or an option has no value.
    """
    pairs = split_options(argv[1:])
    arguments: list[str] = []
    experiment = ckpt = None
    for option, value in pairs:
        if option in _CONFIG:
            file = find_config(_value(option, value))
            experiment = experiment or file.stem
            value = str(file)
        elif option == "--ckpt":
            ckpt = _value(option, value)
        elif option == "--adjacency" or option.startswith("--adjacency."):
            option = f"--model{option[1:]}".replace("--model-", "--model.")
        elif option in ("--model.network", "--model.network.class_path"):
            value = _network(value)
        arguments += [option] if value is None else [option, value]
    return Command(argv[0], arguments, experiment, ckpt)


def split_options(arguments: list[str]) -> list[tuple[str, str | None]]:
    """Pairs of an option and its value; `--a=b` is cut, and a lone word stands by itself."""
    pairs: list[tuple[str, str | None]] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word.startswith("--") and "=" in word:
            option, _, value = word.partition("=")
            pairs.append((option, value))
        elif word.startswith("-") and rest and not rest[0].startswith("--"):
            pairs.append((word, rest.pop(0)))
        else:
            pairs.append((word, None))
    return pairs


def _value(option: str, value: str | None) -> str:
    if value is None:
        raise UsageError(f"{option} needs a value")
    return value


def _network(name: str | None) -> str | None:
    return f"graphformer.models.{name}" if name in catalog()["networks"] else name


def find_checkpoint(name: str, command: str) -> Path:
    """The file that `--ckpt NAME` means: itself, or a checkpoint of a run's folder.

    Of a folder `fit` takes the last one, to go on with; the other commands take the best one.

    Raises:
        UsageError: there is no such checkpoint.
    """
    path = Path(name)
    kinds = ("last.ckpt",) if command == "fit" else ("best.ckpt", "last.ckpt")
    for place in (path, *(path / "checkpoints" / kind for kind in kinds)):
        if place.is_file():
            return place
    there = sorted(Path("runs").glob("**/*.ckpt"), key=lambda file: file.stat().st_mtime)
    hint = f": the newest one here is {there[-1]}" if there else ", and none below runs/"
    raise UsageError(f"there is no checkpoint {name!r}{hint}")
