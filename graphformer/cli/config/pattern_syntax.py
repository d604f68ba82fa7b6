"""Patterns as one word of a command line: `Window:radius=16+GlobalNodes:count=2`."""

from __future__ import annotations

import re
from dataclasses import MISSING, Field, fields
from functools import reduce
from operator import or_
from typing import Any

import yaml

from graphformer import patterns
from graphformer.cli.errors import UsageError
from graphformer.options import suggestion
from graphformer.patterns import Learned, Pattern

_COMPOSITIONS = ("Union", "Intersection", "PerLayer", "PerHead", "Within")
_SCALARS = {"int": int, "bool": bool, "str": str}


def parse_pattern(text: str) -> Pattern:
    """Return the pattern of `NAME[:setting=value,...]`, or the union of several joined by `+`.

    A sequence is written `[1,2,3]`.

    Raises:
        UsageError: when a name or a setting is unknown, absent, or of another type.
    """
    parts = re.split(r"\+(?=[A-Za-z])", text)
    try:
        return reduce(or_, map(_parse_part, parts))
    except _SyntaxError as error:
        raise UsageError(f"--patterns {text}: {error}") from error


def known_patterns() -> dict[str, type[Pattern]]:
    """Return the patterns that a word can name, by name."""
    exported = {name: getattr(patterns, name) for name in patterns.__all__}
    return {
        name: kind
        for name, kind in exported.items()
        if isinstance(kind, type) and issubclass(kind, Pattern) and kind is not Pattern
        if name not in _COMPOSITIONS
    }


class _SyntaxError(ValueError):
    """A problem in one part of the word."""


def _parse_part(text: str) -> Pattern:
    name, _, rest = text.partition(":")
    known = known_patterns()
    if name not in known:
        raise _SyntaxError(f"unknown pattern {name!r}{suggestion(name, known)}")
    declared = {field.name: field for field in fields(known[name])}  # type: ignore[arg-type]
    settings = dict(_parse_setting(word, name, declared) for word in _split_settings(rest))
    for key, field in declared.items():
        if field.default is MISSING and key not in settings:
            raise _SyntaxError(f"{name} needs {key}, as in {name}:{key}=...")
    try:
        pattern = known[name](**settings)
        return pattern.pattern if isinstance(pattern, Learned) else pattern
    except (TypeError, ValueError, FileNotFoundError) as error:
        raise _SyntaxError(str(error)) from error


def _split_settings(text: str) -> list[str]:
    """Split at commas outside of brackets."""
    return re.split(r",(?![^\[]*\])", text) if text else []


def _parse_setting(text: str, owner: str, declared: dict[str, Field[Any]]) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if key not in declared or not equals:
        hint = suggestion(key, declared) if declared else ": it has none"
        raise _SyntaxError(f"{owner} has no setting {text!r}{hint}")
    return key, _parse_value(value, str(declared[key].type), key)


def _parse_value(text: str, kind: str, key: str) -> Any:
    value = text if kind == "str" else yaml.safe_load(text)
    if kind in _SCALARS and type(value) is not _SCALARS[kind]:
        raise _SyntaxError(f"{key}: got {text!r}, expected {kind}")
    if kind.startswith("tuple") and not isinstance(value, list):
        raise _SyntaxError(f"{key}: got {text!r}, expected a sequence such as [1,2]")
    return tuple(value) if isinstance(value, list) else value
