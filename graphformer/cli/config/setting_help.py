"""`--model.help NAME` and the like: the settings of a task, network, pattern or data module."""

from __future__ import annotations

import re
from argparse import SUPPRESS
from collections.abc import Sequence
from typing import Any

from graphformer.cli.commands.list import catalog
from graphformer.cli.config.arguments import split_options
from graphformer.cli.config.parser import SIZES, Parser, import_object
from graphformer.cli.errors import UsageError
from graphformer.options import suggestion

_SECTIONS = {
    "model": ("tasks", "graphformer.tasks"),
    "data": ("data", "graphformer.data"),
    "model.network": ("networks", "graphformer.models"),
    "model.adjacency": ("patterns", "graphformer.patterns"),
}
"""Setting -> section of `graphformer list` and module of its names."""
_PLACES = {section: place for place, (section, _) in _SECTIONS.items()}


def setting_help(arguments: Sequence[str]) -> str | None:
    """Return the help that `--model.help NAME`, or another such option, asks for; None without one.

    Without a name, it is the list of names with descriptions. Options of settings that are not
    ours, such as `--trainer.callbacks.help`, are left to jsonargparse.

    Raises:
        UsageError: when there is no such name.
    """
    for option, name in split_options(list(arguments[1:])):
        place = option.removeprefix("--").removesuffix(".help")
        place = {"adjacency": "model.adjacency"}.get(place, place)
        if option.endswith(".help") and place in _SECTIONS:
            return _names(place) if name is None else _settings(arguments[0], place, name)
    return None


def _names(place: str) -> str:
    section, module = _SECTIONS[place]
    rows = [f"  {name:<24} {line}" for name, line in catalog()[section].items()]
    head = f"--{place} takes one of these names of {module}, or the path of another class:"
    return "\n".join([head, *rows, f"\nThe settings of one: --{place}.help NAME", ""])


def _settings(command: str, place: str, name: str) -> str:
    target = _find(place, name)
    parser = Parser(
        usage=f"graphformer {command} --{place} {name} [--{place}.SETTING VALUE] ...",
        description=None,
        add_help=False,
    )
    add = parser.add_class_arguments if isinstance(target, type) else parser.add_function_arguments
    add(target, place, fail_untyped=False)
    sizes = []
    for action in parser._actions:
        setting = action.dest.removeprefix(f"{place}.")
        if action.dest == place:  # a file with all settings, for which there is `-c`
            action.help = SUPPRESS
        elif setting in SIZES:
            action.required = False
            sizes.append(setting)
    if sizes:
        parser.epilog = f"Taken from the data unless given: {', '.join(sizes)}."
    return re.sub(r"Unvalidated<(.*?)>", r"\1", parser.format_help())  # jsonargparse's own word


def _find(place: str, name: str) -> Any:
    """Return the class or function of a name, or of a dotted path."""
    section, module = _SECTIONS[place]
    path = name if "." in name else f"{module}.{name}"
    try:
        found = import_object(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"--{place}.help: {_unknown(place, name)}") from error
    if not callable(found):
        raise UsageError(
            f"--{place}.help: got {name}, expected a class or a function; choose one of "
            f"`graphformer list {section}`"
        )
    return found


def _unknown(place: str, name: str) -> str:
    section, _ = _SECTIONS[place]
    sections = catalog()
    for other, its_place in _PLACES.items():
        if name in sections[other]:
            return (
                f"got {name}, which is one of {other}, expected one of {section}; ask "
                f"--{its_place}.help {name}"
            )
    if "." in name:
        return f"got {name}, expected a class or a function; check its path"
    hint = suggestion(name, sections[section]) or f"; --{place}.help lists all"
    return f"unknown name {name!r}{hint}"
