"""Patterns in files: as JSON, in the form that a YAML file of settings has."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from graphformer.adjacency import Adjacency
from graphformer.patterns.base import Pattern


@dataclass(frozen=True)
class Learned(Pattern):
    """The pattern in a JSON file, such as `graphformer sparsify --learn` writes.

    Args:
        path: what `save_pattern` wrote.
    """

    path: str

    @property
    def pattern(self) -> Pattern:
        """The pattern in the file; read again when that has changed."""
        return _read(self.path, os.stat(self.path).st_mtime_ns if Path(self.path).is_file() else 0)

    def __call__(self, batch: Any) -> Adjacency:
        """Return what the stored pattern makes of the batch."""
        return self.pattern(batch)

    def __or__(self, other: Pattern) -> Pattern:
        """The edges of either."""
        return self.pattern | other

    def __and__(self, other: Pattern) -> Pattern:
        """The edges of both."""
        return self.pattern & other


def save_pattern(pattern: Pattern, path: str | os.PathLike[str]) -> None:
    """Write a pattern of `graphformer.patterns`, however composed, as JSON.

    Raises TypeError for a pattern of another kind.
    """
    Path(path).write_text(json.dumps(_spec(pattern)) + "\n", encoding="utf-8")


def load_pattern(path: str | os.PathLike[str]) -> Pattern:
    """The pattern that `save_pattern` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no pattern.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"there is no pattern file {os.fspath(path)!r}")
    try:
        return _pattern(json.loads(file.read_text(encoding="utf-8")))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{os.fspath(path)!r} holds no pattern: {error}") from None


@lru_cache(maxsize=64)
def _read(path: str, changed: int) -> Pattern:
    return load_pattern(path)


def _known() -> dict[str, Callable[..., Pattern]]:
    from graphformer import patterns

    found = {name: getattr(patterns, name) for name in patterns.__all__}
    return {
        name: kind
        for name, kind in found.items()
        if isinstance(kind, type) and issubclass(kind, Pattern)
    }


def _spec(pattern: Pattern) -> dict[str, Any]:
    name = type(pattern).__name__
    if _known().get(name) is not type(pattern):
        raise TypeError(f"pattern must be one of graphformer.patterns to be stored, got {name}")
    settings = {field.name: getattr(pattern, field.name) for field in fields(pattern)}
    if "patterns" in settings:
        settings["patterns"] = [_spec(part) for part in settings["patterns"]]
    return {"class_path": name, "init_args": settings}


def _pattern(spec: dict[str, Any]) -> Pattern:
    name, settings = str(spec["class_path"]).rpartition(".")[2], dict(spec.get("init_args") or {})
    if name not in _known():
        raise ValueError(f"there is no pattern {name!r}")
    if "patterns" in settings:
        settings["patterns"] = tuple(_pattern(part) for part in settings["patterns"])
    return _known()[name](**settings)
