"""Locations of the YAML files of data sets and experiments, in a checkout or an installation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import graphformer
from graphformer.cli.errors import UsageError
from graphformer.options import suggestion

FOLDERS = ("experiments", "datasets")
_PACKAGE = Path(graphformer.__file__).resolve().parent


def config_root() -> Path:
    """Return the folder that contains `datasets/` and `experiments/`."""
    checkout = _PACKAGE.parent
    return checkout if (checkout / "pyproject.toml").is_file() else _PACKAGE / "_configs"


def config_files(folder: str) -> list[Path]:
    """Return the YAML files of "datasets" or "experiments", sorted by name."""
    return sorted((config_root() / folder).glob("*.yaml"))


def find_config(name: str, *, taken: Sequence[Path] = ()) -> Path:
    """Return the file that `-c NAME` means: a path, or a shipped file by path or bare name.

    An experiment and a data set may have one name: `-c listops -c listops` means both.

    Args:
        name: the path or name.
        taken: files of the command line so far, which come last.

    Raises:
        UsageError: when there is no such file.
    """
    root = config_root()
    shipped_paths = [root / name, *(root / folder / f"{name}.yaml" for folder in FOLDERS)]
    found = [path for path in (Path(name), *shipped_paths) if path.is_file()]
    if found:
        return next((path for path in found if path not in taken), found[0])
    shipped = [f"{folder}/{file.name}" for folder in FOLDERS for file in config_files(folder)]
    local = [str(file) for file in Path(name).parent.glob("*.yaml")]
    hint = suggestion(name, [*shipped, *local])
    raise UsageError(f"there is no configuration file {name!r}{hint}")


def read_doc_line(file: Path) -> str:
    """Return the first comment of a YAML file, "" without one."""
    with file.open(encoding="utf-8") as lines:
        return next((line.lstrip("# ").rstrip() for line in lines if line.startswith("#")), "")
