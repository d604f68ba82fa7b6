"""Which modules the settings in a checkpoint may import."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import yaml

from graphformer.cli.config.yaml_limits import check_yaml
from graphformer.cli.errors import UsageError

_TRUSTED = (
    "graphformer", "lightning", "pytorch_lightning", "torch.optim", "torch_geometric.datasets",
    "torchmetrics",
)  # fmt: skip
_PATHS = ("class_path", "dataset")
"""Settings that name a class by its path; `dataset` is that of `PyGGraphs` and `PyGNodes`."""
_named: ContextVar[tuple[str, ...]] = ContextVar("named", default=())


def name_modules(arguments: Sequence[str]) -> list[str]:
    """Set the modules that the user names, and return the arguments without `--trust MODULE`.

    The user also names a module by a class path on the command line, or in one of its YAML files.

    Raises:
        UsageError: when `--trust` has no value.
    """
    rest, trusted = [], []
    words = iter(arguments)
    for word in words:
        option, equals, value = word.partition("=")
        if option != "--trust":
            rest.append(word)
            continue
        value = value if equals else next(words, "")
        if not value:
            raise UsageError("--trust needs a value, the name of a module")
        trusted.append(value)
    values = [word.partition("=")[2] if word.startswith("--") else word for word in rest]
    files = [Path(value) for value in values if value.endswith((".yaml", ".yml"))]
    paths = [path for file in files if file.is_file() for path in _paths_of_file(file)]
    dotted = [path for path in (*values, *paths) if _is_dotted(path)]
    _named.set(tuple(path.partition(".")[0] for path in (*trusted, *dotted)))
    return rest


@contextmanager
def trusted(modules: Sequence[str]) -> Iterator[None]:
    """Allow the settings of checkpoints to import these modules, as `--trust MODULE` does."""
    token = _named.set((*_named.get(), *modules))
    try:
        yield
    finally:
        _named.reset(token)


def check_imports(settings: Any, source: Path) -> None:
    """Refuse settings of a checkpoint that import modules outside the package and Lightning.

    Importing runs code, and a checkpoint may come from anywhere.

    Args:
        settings: of the checkpoint.
        source: the checkpoint.

    Raises:
        UsageError: when a class path is of a module that the user does not name.
    """
    for path in class_paths(settings):
        is_trusted = any(path == name or path.startswith(f"{name}.") for name in _TRUSTED)
        if "." in path and not is_trusted and path.partition(".")[0] not in _named.get():
            raise UsageError(
                f"{source}: got settings that import {path}, expected classes of graphformer or "
                f"Lightning; if you trust the file, add --trust {path.partition('.')[0]}"
            )


def class_paths(settings: Any) -> Iterator[str]:
    """Yield the class paths in nested settings."""
    if isinstance(settings, dict):
        for key, value in settings.items():
            if key in _PATHS and isinstance(value, str):
                yield value
            yield from class_paths(value)
    elif isinstance(settings, list):
        for each in settings:
            yield from class_paths(each)


def _paths_of_file(file: Path) -> Iterable[str]:
    try:
        text = file.read_text(encoding="utf-8")
        check_yaml(text, str(file))
        return list(class_paths(yaml.safe_load(text)))
    except (OSError, ValueError, UsageError, yaml.YAMLError):
        return []  # reported where the file is used


def _is_dotted(path: str) -> bool:
    return "." in path and all(part.isidentifier() for part in path.split("."))
