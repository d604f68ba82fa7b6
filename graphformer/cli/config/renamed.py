"""Settings in the form of an earlier release: converted while parsing, and reported once."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any

import yaml

from graphformer.deprecated import old_keywords, upgrade_settings

_changes: set[str] = set()  # such as "vit: checkpoint -> activation_checkpointing"


def upgrade(target: Callable[..., Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a class or function under their names of today.

    Args:
        target: the class or function that receives the settings.
        settings: keyword arguments, possibly of an earlier release.
    """
    names = old_keywords(target)
    renamed = {names.get(name, name): value for name, value in settings.items()}
    # Words of a command line are strings; conversion distinguishes a list from a number.
    loaded = {name: _load(value) for name, value in renamed.items()}
    new = {
        name: renamed[name] if name in loaded and value is loaded[name] else value
        for name, value in upgrade_settings(target, loaded).items()
    }
    removed = [k for k, v in settings.items() if k not in new or new[k] is not v]
    if any(settings[name] is not None for name in removed):
        added = [k for k, v in new.items() if k not in settings or v is not settings[k]]
        _changes.add(f"{target.__name__}: {', '.join(removed)} -> {', '.join(added)}")
    return new


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


def convert_option(target: Callable[..., Any], option: str, known: Mapping[str, Any]) -> list[str]:
    """Return the options of today for one such as "--num_features=75" in a form no longer known.

    Args:
        target: the class or function that receives the setting.
        option: the option.
        known: settings that are parsed already; those at their defaults do not count.
    """
    name, _, value = option.removeprefix("--").partition("=")
    parameters = inspect.signature(target).parameters
    constructor = target.__init__ if isinstance(target, type) else target  # type: ignore[misc]
    if name in parameters or not hasattr(constructor, "convert_keywords"):
        return [option]
    given = {
        key: each
        for key, each in known.items()
        if key in parameters and each is not None and each != parameters[key].default
    }
    new = upgrade_settings(target, {**given, name: _load(value)})
    changed = {key: each for key, each in new.items() if given.get(key) != each}
    if name in changed:
        return [option]
    _changes.add(f"{target.__name__}: {name} -> {', '.join(changed)}")
    return [
        f"--{key}={yaml.safe_dump(each).partition(chr(10))[0]}" for key, each in changed.items()
    ]


def report_renamed() -> None:
    """Print one line to stderr with all changes since the last report, if there are any."""
    if _changes:
        changes = "; ".join(sorted(_changes))
        print(f"graphformer: settings of an earlier release: {changes}", file=sys.stderr)
    _changes.clear()
