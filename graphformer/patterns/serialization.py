"""Reading and writing patterns as JSON, in the form they have in YAML configurations."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphformer.adjacency import Adjacency
from graphformer.patterns.base import Pattern

if TYPE_CHECKING:
    from graphformer.batch_type import BatchLike


@dataclass(frozen=True)
class Learned(Pattern):
    """The pattern in a JSON file, such as one written by `graphformer sparsify --learn`.

    Args:
        path: a file written by `save_pattern`.
    """

    path: str

    @property
    def pattern(self) -> Pattern:
        """The pattern in the file, which is read again when it has changed."""
        return _read(self.path, os.stat(self.path).st_mtime_ns if Path(self.path).is_file() else 0)

    def __call__(self, batch: BatchLike) -> Adjacency:
        """Return the adjacency of the stored pattern."""
        return self.pattern(batch)

    def __or__(self, other: Pattern) -> Pattern:
        """Return the union of the stored pattern and `other`."""
        return self.pattern | other

    def __and__(self, other: Pattern) -> Pattern:
        """Return the intersection of the stored pattern and `other`."""
        return self.pattern & other


def save_pattern(pattern: Pattern, path: str | os.PathLike[str]) -> None:
    """Write a pattern as JSON.

    Args:
        pattern: a pattern of `graphformer.patterns`, or any combination of them.
        path: the file.

    Raises:
        TypeError: when a pattern is of a class that is not in `graphformer.patterns`.
    """
    Path(path).write_text(json.dumps(pattern_config(pattern)) + "\n", encoding="utf-8")


def load_pattern(path: str | os.PathLike[str]) -> Pattern:
    """Return the pattern in a file written by `save_pattern`.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it does not contain a pattern.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(
            f"path: got {os.fspath(path)!r}, expected an existing pattern file; write one with "
            "save_pattern"
        )
    try:
        return pattern_from_config(json.loads(file.read_text(encoding="utf-8")))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"path: got {os.fspath(path)!r}, expected a file with a pattern ({error}); write it "
            "with save_pattern"
        ) from None


@lru_cache(maxsize=64)
def _read(path: str, modified: int) -> Pattern:
    return load_pattern(path)


def _pattern_classes() -> dict[str, Callable[..., Pattern]]:
    from graphformer import patterns

    exports = {name: getattr(patterns, name) for name in patterns.__all__}
    return {
        name: export
        for name, export in exports.items()
        if isinstance(export, type) and issubclass(export, Pattern)
    }


def pattern_config(pattern: Pattern) -> dict[str, Any]:
    """The `class_path` and `init_args` of a pattern, recursively."""
    name = type(pattern).__name__
    if _pattern_classes().get(name) is not type(pattern):
        raise TypeError(
            f"pattern: got {name}, expected one of graphformer.patterns; compose it of these"
        )
    settings = {field.name: getattr(pattern, field.name) for field in fields(pattern)}
    if "patterns" in settings:
        settings["patterns"] = [pattern_config(part) for part in settings["patterns"]]
    if "pattern" in settings:
        settings["pattern"] = pattern_config(settings["pattern"])
    return {"class_path": name, "init_args": settings}


def pattern_from_config(config: dict[str, Any]) -> Pattern:
    """The pattern of `class_path` and `init_args`."""
    name = str(config["class_path"]).rpartition(".")[2]
    settings = dict(config.get("init_args") or {})
    if name not in _pattern_classes():
        raise ValueError(f"class_path: got {name!r}, expected a pattern; see graphformer.patterns")
    if "patterns" in settings:
        settings["patterns"] = tuple(pattern_from_config(part) for part in settings["patterns"])
    if "pattern" in settings:
        settings["pattern"] = pattern_from_config(settings["pattern"])
    return _pattern_classes()[name](**settings)
