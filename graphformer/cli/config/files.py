"""Where the YAML files of data sets and experiments are, in a checkout or an installed package."""

from __future__ import annotations

from pathlib import Path

import graphformer
from graphformer.cli.errors import UsageError
from graphformer.options import suggestion

FOLDERS = ("experiments", "datasets")
_PACKAGE = Path(graphformer.__file__).resolve().parent


def config_root() -> Path:
    """The folder that holds `datasets/` and `experiments/`."""
    checkout = _PACKAGE.parent
    return checkout if (checkout / "pyproject.toml").is_file() else _PACKAGE / "_configs"


def config_files(folder: str) -> list[Path]:
    """The YAML files of "datasets" or "experiments", sorted by name."""
    return sorted((config_root() / folder).glob("*.yaml"))


def find_config(name: str) -> Path:
    """The file that `-c NAME` means: a path, else a shipped file (`gat_cora` will do).

    Raises:
        UsageError: there is no such file.
    """
    root = config_root()
    places = [Path(name), root / name, *(root / folder / f"{name}.yaml" for folder in FOLDERS)]
    for place in places:
        if place.is_file():
            return place
    shipped = [f"{folder}/{file.name}" for folder in FOLDERS for file in config_files(folder)]
    local = [str(file) for file in Path(name).parent.glob("*.yaml")] if Path(name).parent else []
    raise UsageError(
        f"there is no configuration file {name!r}{suggestion(name, [*shipped, *local])}"
    )


def read_doc_line(file: Path) -> str:
    """The first comment of a YAML file."""
    with file.open(encoding="utf-8") as lines:
        return next((line.lstrip("# ").rstrip() for line in lines if line.startswith("#")), "")
