"""Patterns as a command line spells them: `Window:radius=16+GlobalNodes:count=2`."""

from __future__ import annotations

import re
from dataclasses import MISSING, fields
from functools import reduce
from operator import or_
from typing import Any

import yaml

from graphformer import patterns
from graphformer.cli.errors import UsageError
from graphformer.options import suggestion
from graphformer.patterns import Learned, Pattern

_COMPOSED = ("Union", "Intersection", "PerLayer", "PerHead")
_KINDS = {"int": int, "bool": bool, "str": str}


def parse_pattern(text: str) -> Pattern:
    """The pattern that a word spells: `NAME[:setting=value,...]`, several joined by `+`.

    A sequence is spelled `[1,2,3]`.

    Raises:
        UsageError: a name or a setting is not known, is missing, or has another type.
    """
    return reduce(or_, (_part(part, text) for part in re.split(r"\+(?=[A-Za-z])", text)))


def known_patterns() -> dict[str, type[Pattern]]:
    """The patterns that can be spelled, by name."""
    found = {name: getattr(patterns, name) for name in patterns.__all__}
    return {
        name: kind
        for name, kind in found.items()
        if isinstance(kind, type) and issubclass(kind, Pattern) and kind is not Pattern
        if name not in _COMPOSED
    }


def _part(text: str, whole: str) -> Pattern:
    name, _, rest = text.partition(":")
    known = known_patterns()
    if name not in known:
        raise UsageError(f"--patterns {whole}: unknown pattern {name!r}{suggestion(name, known)}")
    declared = {field.name: field for field in fields(known[name])}  # type: ignore[arg-type]
    given: dict[str, Any] = {}
    for setting in re.split(r",(?![^\[]*\])", rest) if rest else []:
        key, equals, value = setting.partition("=")
        if key not in declared or not equals:
            hint = suggestion(key, declared) if declared else ": it has none"
            raise UsageError(f"--patterns {whole}: {name} has no setting {setting!r}{hint}")
        given[key] = _value(value, str(declared[key].type), f"--patterns {whole}: {key}")
    lacking = [k for k, f in declared.items() if f.default is MISSING and k not in given]
    if lacking:
        raise UsageError(
            f"--patterns {whole}: {name} needs {lacking[0]}, as in {name}:{lacking[0]}=..."
        )
    return _made(known[name], given, whole)


def _value(text: str, kind: str, what: str) -> Any:
    value = text if kind == "str" else yaml.safe_load(text)
    if kind in _KINDS and type(value) is not _KINDS[kind]:
        raise UsageError(f"{what} must be {kind}, got {text!r}")
    if kind.startswith("tuple") and not isinstance(value, list):
        raise UsageError(f"{what} must be a sequence such as [1,2], got {text!r}")
    return tuple(value) if isinstance(value, list) else value


def _made(kind: type[Pattern], given: dict[str, Any], whole: str) -> Pattern:
    try:
        pattern = kind(**given)
        return pattern.pattern if isinstance(pattern, Learned) else pattern
    except (TypeError, ValueError, FileNotFoundError) as error:
        raise UsageError(f"--patterns {whole}: {error}") from error
