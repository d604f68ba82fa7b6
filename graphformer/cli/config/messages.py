"""Make one short message out of what jsonargparse says about a wrong setting."""

from __future__ import annotations

import re
from importlib import import_module

from graphformer.cli.commands.list import catalog
from graphformer.cli.config.parser import Parser, import_object
from graphformer.options import suggestion

_PATTERNS = {
    "option": r"Option '([^']+)' is not accepted",
    "key": r"does not accept option '([^']+)'",
    "flag": r"[Uu]nrecognized arguments?: --?([\w.]+)",
    "unknown": r"Expected a dot import path string: (\S+)",
    "attribute": r"module '([\w.]+)' has no attribute '(\w+)'",
    "module": r"No module named '([\w.]+)'",
    "required": r"the following arguments are required: (.+)",
    "kind": r"Import path ([\w.]+) does not correspond to a subclass of (\w+)",
    "literal": r"Expected a (?:typing\.)?Literal\[(.+)\]\. Got value: (.+)",
    "type": r"Expected an? (.+)\. Got value: (.+)",
    "optional": r"Expected an? (<class '(?!NoneType)[\w.]+'>|tuple with \d+ elements)(?s:.*?)"
    r"Given value: ([^\n]+)",
}
_COMMAND = r"\b(?:fit|validate|test|predict)\."
_SECTIONS = {"model": "tasks", "adjacency": "patterns", "network": "networks", "data": "data"}


def describe_error(text: str, options: list[str]) -> str:
    """One line for a parser's error.

    Args:
        text: the error's message, a tree of what was tried.
        options: all top-level option names, such as "trainer.max_epochs".
    """
    keys = re.findall(r"Parser key \"([\w.]+)\"", text)
    classes = re.findall(r"Problem with given class_path '([\w.]+)'", text)
    path = ".".join(keys)
    for kind, pattern in _PATTERNS.items():
        if match := re.search(pattern, text):
            groups = [group.strip() for group in match.groups()]
            return _line(kind, groups, path, classes, options)
    return _last_resort(text, path)


def _line(kind: str, groups: list[str], path: str, classes: list[str], options: list[str]) -> str:
    name = groups[0]
    if kind == "option":
        owner = classes[-1] if classes else path
        return f"{owner.rpartition('.')[2]} has no setting {name!r}{suggestion(name, _settings(owner))}"
    if kind in ("key", "flag"):
        return f"unknown setting {name!r}{suggestion(name, options)}"
    if kind == "unknown":
        choices = catalog().get(_SECTIONS.get(path.rpartition(".")[2], ""), {})
        return f"{path}: unknown name {name!r}{suggestion(name, choices)}"
    if kind == "attribute":
        module, missing = groups
        return f"{path}: {module} has no {missing!r}{suggestion(missing, _public(module))}"
    if kind == "module":
        return f"{path}: there is no module {name!r}"
    if kind == "required":
        owner = classes[-1].rpartition(".")[2] if classes else ""
        place = f"{path} ({owner})" if owner else "this command"
        hint = "" if owner else ": give -c experiments/X.yaml or --ckpt PATH"
        return f"{place} needs {re.sub(_COMMAND, '', name)}{hint}"
    if kind == "kind":
        owner = classes[-1].rpartition(".")[2] if classes else "this command"
        return f"{path}: {name.rpartition('.')[2]} is no {groups[1]}, which {owner} needs"
    if kind == "literal":
        allowed = re.findall(r"['\"](.+?)['\"]", name)
        return f"{path}: unknown choice {groups[1]!r}{suggestion(groups[1], allowed)}"
    kind_of_value = re.sub(r"<class '([\w.]+)'>", r"\1", name)
    return f"{path}: expected {kind_of_value}, got {groups[1]!r}"


def _settings(class_path: str) -> list[str]:
    target = import_object(class_path)
    parser = Parser()
    add = parser.add_class_arguments if isinstance(target, type) else parser.add_function_arguments
    return [str(key) for key in add(target, fail_untyped=False)]


def _public(module: str) -> list[str]:
    return [name for name in dir(import_module(module)) if not name.startswith("_")]


def _last_resort(text: str, path: str) -> str:
    lines = [line.strip(" -") for line in text.splitlines()]
    telling = [line for line in lines if line and not line.endswith(":") and "NoneType" not in line]
    return f"{path}: {telling[0]}" if path and telling else (telling or lines)[0]
