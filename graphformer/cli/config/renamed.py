"""Settings in the form of an earlier release: converted while parsing, and reported once."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any

import yaml

from graphformer.deprecated import old_keywords, upgrade_settings

_changes: set[str] = set()  # such as "vit: checkpoint -> activation_checkpointing"


def upgrade(
    target: Callable[..., Any], settings: Mapping[str, Any], known: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the settings of a class or function under their names of today.

    Args:
        target: the class or function that receives the settings.
        settings: keyword arguments, possibly of an earlier release.
        known: settings that these ones change, with which they are converted; those at their
            defaults do not count.
    """
    names = old_keywords(target)
    renamed = {names.get(name, name): value for name, value in settings.items()}
    # Words of a command line are strings; conversion distinguishes a list from a number.
    loaded = {name: _load(value) for name, value in renamed.items()}
    context = {k: v for k, v in _not_default(target, known or {}).items() if k not in loaded}
    new = {
        name: renamed[name] if name in loaded and value is loaded[name] else value
        for name, value in upgrade_settings(target, {**context, **loaded}).items()
        if name not in context or value is not context[name]
    }
    removed = [k for k, v in settings.items() if k not in new or new[k] is not v]
    if any(settings[name] is not None for name in removed):
        added = [k for k, v in new.items() if k not in settings or v is not settings[k]]
        _changes.add(f"{target.__name__}: {', '.join(removed)} -> {', '.join(added)}")
    return new


def _not_default(target: Callable[..., Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    parameters = inspect.signature(target).parameters
    return {
        name: value
        for name, value in settings.items()
        if value is not None and (name not in parameters or value != parameters[name].default)
    }


def _load(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        return value


def rename_option(target: Callable[..., Any], option: str) -> str:
    """Return an option such as "--checkpoint=true" with the new name of its setting."""
    name, rest = option.removeprefix("--"), ""
    for separator in (".", "="):
        name, found, tail = name.partition(separator)
        rest = found + tail + rest
    new = old_keywords(target).get(name)
    if new is None:
        return option
    _changes.add(f"{target.__name__}: {name} -> {new}")
    return f"--{new}{rest}"


def report_renamed() -> None:
    """Print one line to stderr with all changes since the last report, if there are any."""
    if _changes:
        changes = "; ".join(sorted(_changes))
        print(f"graphformer: settings of an earlier release: {changes}", file=sys.stderr)
    _changes.clear()
