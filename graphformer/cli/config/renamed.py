"""Settings under their old names: renamed while parsing, and reported once."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

_found: dict[str, str] = {}  # "vit.checkpoint" -> "activation_checkpointing"


def new_names(target: Callable[..., Any]) -> dict[str, str]:
    """Old argument name -> new one, of a function or of a class and its base classes.

    The names are those that `graphformer.deprecated.renamed_keywords` attaches.
    """
    if not isinstance(target, type):
        return dict(getattr(target, "renamed_keywords", {}))
    names: dict[str, str] = {}
    for base in reversed(target.__mro__):
        names |= getattr(vars(base).get("__init__"), "renamed_keywords", {})
    return names


def rename(key: str, names: dict[str, str], owner: str) -> str:
    """A setting's key such as "checkpoint" or "source_adjacency.radius" with its new name."""
    first, dot, rest = key.partition(".")
    if first not in names:
        return key
    _found[f"{owner}.{first}"] = names[first]
    return f"{names[first]}{dot}{rest}"


def report_renamed() -> None:
    """Print one line to stderr that lists the renamed settings since the last report, if any."""
    if _found:
        changes = ", ".join(f"{old} is now {new}" for old, new in sorted(_found.items()))
        print(f"graphformer: settings with old names: {changes}; change them", file=sys.stderr)
    _found.clear()
