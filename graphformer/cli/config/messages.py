"""One-line messages for jsonargparse's errors about settings."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from graphformer.cli.commands.list import catalog
from graphformer.cli.config.parser import Parser, import_object
from graphformer.options import suggestion

_SUBCOMMAND = r"\b(?:fit|validate|test|predict)\."
_SECTIONS = {"model": "tasks", "adjacency": "patterns", "network": "networks", "data": "data"}


@dataclass(frozen=True)
class _Context:
    """Where an error occurred.

    Attributes:
        path: the setting, such as "model.network".
        classes: import paths of the classes or functions around it, from the outside in.
        options: names of all top-level options, such as "trainer.max_epochs".
    """

    path: str
    classes: list[str]
    options: list[str]

    @property
    def owner(self) -> str:
        """Short name of the innermost class or function; "" outside of all."""
        return self.classes[-1].rpartition(".")[2] if self.classes else ""


def describe_error(text: str, options: list[str]) -> str:
    """Return one line for a parser's error.

    Args:
        text: the error's message, a tree of all types that the parser has tried.
        options: names of all top-level options, for suggestions.
    """
    path = ".".join(re.findall(r"Parser key \"([\w.]+)\"", text))
    classes = re.findall(r"Problem with given class_path '([\w.]+)'", text)
    context = _Context(path, classes, options)
    for pattern, describe in _RULES:
        if match := re.search(pattern, text):
            return describe(context, *(group.strip() for group in match.groups()))
    return _first_specific_line(text, path)


def _unknown_argument(context: _Context, name: str) -> str:
    owner = context.classes[-1] if context.classes else context.path
    hint = suggestion(name, _arguments_of(owner))
    return f"{owner.rpartition('.')[2]} has no setting {name!r}{hint}"


def _unknown_setting(context: _Context, name: str) -> str:
    return f"unknown setting {name!r}{suggestion(name, context.options)}"


def _unknown_name(context: _Context, name: str) -> str:
    choices = catalog().get(_SECTIONS.get(context.path.rpartition(".")[2], ""), {})
    return f"{context.path}: unknown name {name!r}{suggestion(name, choices)}"


def _unknown_attribute(context: _Context, module: str, name: str) -> str:
    public = [other for other in dir(import_module(module)) if not other.startswith("_")]
    return f"{context.path}: {module} has no {name!r}{suggestion(name, public)}"


def _unknown_module(context: _Context, name: str) -> str:
    return f"{context.path}: there is no module {name!r}"


def _required(context: _Context, names: str) -> str:
    names = re.sub(_SUBCOMMAND, "", names)
    if context.owner:
        return f"{context.path} ({context.owner}) needs {names}"
    return f"this command needs {names}: give -c experiments/X.yaml or --ckpt PATH"


def _wrong_class(context: _Context, path: str, base: str) -> str:
    owner = context.owner or "this command"
    name = path.rpartition(".")[2]
    return f"{context.path}: got {name}, which is not a {base}; {owner} needs a {base}"


def _wrong_choice(context: _Context, choices: str, value: str) -> str:
    allowed = re.findall(r"['\"](.+?)['\"]", choices)
    return f"{context.path}: unknown choice {value!r}{suggestion(value, allowed)}"


def _wrong_type(context: _Context, expected: str, value: str) -> str:
    expected = re.sub(r"<class '([\w.]+)'>", r"\1", expected)
    return f"{context.path}: expected {expected}, got {value!r}"


_OPTIONAL_TYPE = (
    r"Expected an? (<class '(?!NoneType)[\w.]+'>|tuple with \d+ elements)(?s:.*?)"
    r"Given value: ([^\n]+)"
)
_RULES: list[tuple[str, Callable[..., str]]] = [
    (r"Option '([^']+)' is not accepted", _unknown_argument),
    (r"does not accept option '([^']+)'", _unknown_setting),
    (r"[Uu]nrecognized arguments?: --?([\w.]+)", _unknown_setting),
    (r"Expected a dot import path string: (\S+)", _unknown_name),
    (r"module '([\w.]+)' has no attribute '(\w+)'", _unknown_attribute),
    (r"No module named '([\w.]+)'", _unknown_module),
    (r"the following arguments are required: (.+)", _required),
    (r"Import path ([\w.]+) does not correspond to a subclass of (\w+)", _wrong_class),
    (r"Expected a (?:typing\.)?Literal\[(.+)\]\. Got value: (.+)", _wrong_choice),
    (r"Expected an? (.+)\. Got value: (.+)", _wrong_type),
    (_OPTIONAL_TYPE, _wrong_type),
]
"""jsonargparse's messages, the most specific first, with the function that rewrites each."""


def _arguments_of(path: str) -> list[str]:
    target = import_object(path)
    parser = Parser()
    add = parser.add_class_arguments if isinstance(target, type) else parser.add_function_arguments
    return [str(key) for key in add(target, fail_untyped=False)]


def _first_specific_line(text: str, path: str) -> str:
    """Return the first line that is neither a heading nor about the alternative None."""
    lines = [line.strip(" -") for line in text.splitlines()]
    specific = [
        line for line in lines if line and not line.endswith(":") and "NoneType" not in line
    ]
    return f"{path}: {specific[0]}" if path and specific else (specific or lines)[0]
