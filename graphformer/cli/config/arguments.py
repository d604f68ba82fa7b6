"""Preparation of a command line for LightningCLI: files, short forms, checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from graphformer.cli.commands.list import catalog
from graphformer.cli.config.files import find_config
from graphformer.cli.config.yaml_limits import check_yaml
from graphformer.cli.errors import UsageError

LOGGERS = ("csv", "tensorboard", "wandb", "mlflow")
"""Names that `trainer.logger` accepts beside class paths."""
_CONFIG = ("-c", "--config")


@dataclass(frozen=True)
class Command:
    """A parsed command line.

    Attributes:
        name: "fit", "validate", "test" or "predict".
        arguments: options in the full form that jsonargparse expects.
        experiment: name of the first configuration file; None without one.
        ckpt: value of `--ckpt`; None without one.
    """

    name: str
    arguments: list[str]
    experiment: str | None
    ckpt: str | None


def read_command(argv: list[str]) -> Command:
    """Resolve configuration files and expand short forms.

    `--adjacency X` becomes `--model.adjacency X`, and the bare name of a network's builder becomes
    its import path. `--trainer.logger NAME` adds a logger to those named before it.

    Raises:
        UsageError: when a configuration file does not exist, or an option has no value.
    """
    arguments: list[str] = []
    files: list[Path] = []
    ckpt = None
    options = split_options(argv[1:])
    # The old setting num_features of a ViT is converted with its patch_size, which comes first.
    for option, value in sorted(options, key=lambda pair: pair[0].endswith(".num_features")):
        if option in _CONFIG:
            files.append(find_config(_required(option, value), taken=files))
            check_yaml(files[-1].read_bytes(), str(files[-1]))
            value = str(files[-1])
        elif option == "--ckpt":
            ckpt = _required(option, value)
        elif option == "--trainer.logger" and value in LOGGERS:
            option = "--trainer.logger+"
        elif option == "--adjacency" or option.startswith("--adjacency."):
            option = f"--model.{option[2:]}"
        elif option in ("--model.network", "--model.network.class_path"):
            value = _builder_path(value)
        elif value is not None and "*" in value:  # an alias
            check_yaml(value, option)
        arguments += [option] if value is None else [option, value]
    experiment = files[0].stem if files else None
    return Command(argv[0], arguments, experiment, ckpt)


def split_options(arguments: list[str]) -> list[tuple[str, str | None]]:
    """Return pairs of option and value; `--a=b` is split, and a flag or a lone word has None."""
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


def _required(option: str, value: str | None) -> str:
    if value is None:
        raise UsageError(f"{option} needs a value")
    return value


def _builder_path(name: str | None) -> str | None:
    return f"graphformer.models.{name}" if name in catalog()["networks"] else name


def _whole_checkpoint(folder: Path) -> Path:
    from graphformer.distributed.checkpoint import whole_checkpoint  # imports torch

    try:
        return whole_checkpoint(folder)
    except ValueError as error:
        raise UsageError(str(error)) from error


def find_checkpoint(name: str, command: str) -> Path:
    """Return the file that `--ckpt NAME` means: the file itself, or a checkpoint of a run's folder.

    In a folder of a run, `fit` continues from the last checkpoint, and the other commands read the
    best one, or the last one if there is no best; they also read the folder of a saved model. A
    sharded checkpoint, which is a folder too, is written to a file in the same folder.

    Raises:
        UsageError: when there is no such checkpoint, or it cannot be read.
    """
    path = Path(name)
    kinds = ("last.ckpt",) if command == "fit" else ("best.ckpt", "last.ckpt")
    saved = () if command == "fit" else (path / "model.ckpt",)
    for candidate in (path, *(path / "checkpoints" / kind for kind in kinds), *saved):
        if candidate.is_file():
            return candidate
        if candidate.is_dir() and (candidate / ".metadata").is_file():
            return _whole_checkpoint(candidate)
    existing = sorted(Path("runs").glob("**/*.ckpt"), key=lambda file: file.stat().st_mtime)
    hint = f": the newest one here is {existing[-1]}" if existing else ", and none below runs/"
    raise UsageError(f"there is no checkpoint {name!r}{hint}")
