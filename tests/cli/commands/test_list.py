"""`graphformer list`: the sources give the same names as imports."""

from __future__ import annotations

import inspect
from typing import get_origin

import pytest
from torch.nn import Module

import graphformer.data
import graphformer.models
import graphformer.patterns
import graphformer.tasks
from graphformer.cli import main
from graphformer.cli.commands.list import catalog


def subclasses(module: object, base: type) -> set[str]:
    classes = inspect.getmembers(module, inspect.isclass)
    return {name for name, kind in classes if issubclass(kind, base) and kind is not base}


def answer_of(function) -> object:
    """What it is annotated to return; arguments may have types that only checkers import."""
    function = inspect.unwrap(function)
    return eval(function.__annotations__["return"], function.__globals__)


def test_sources_say_what_imports_say():
    sections = catalog()
    assert sections["tasks"].keys() == subclasses(graphformer.tasks, graphformer.tasks.Task)
    assert sections["patterns"].keys() == subclasses(
        graphformer.patterns, graphformer.patterns.Pattern
    )
    functions = inspect.getmembers(graphformer.models, inspect.isfunction)
    answers = {name: answer_of(f) for name, f in functions}
    classes = {n: a for n, a in answers.items() if get_origin(a) is None and isinstance(a, type)}
    builders = {n for n, a in classes.items() if issubclass(a, Module)}
    assert sections["networks"].keys() == builders
    modules = subclasses(graphformer.data, graphformer.data.base.DataModule)
    assert sections["data"].keys() == modules
    for section in sections.values():
        assert all(doc for doc in section.values())


def test_list_prints_one_section(capsys: pytest.CaptureFixture[str]):
    assert main(["list", "patterns"]) == 0
    text = capsys.readouterr().out
    assert "Window" in text
    assert "LanguageModeling" not in text


def test_help_names_the_sections(capsys: pytest.CaptureFixture[str]):
    assert main(["list", "--help"]) == 0
    assert "usage: graphformer list [tasks | patterns" in capsys.readouterr().out
