"""`graphformer list`: what there is to choose from, read from the sources, nothing imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import graphformer
from graphformer.cli.config.files import config_files, read_doc_line
from graphformer.cli.errors import UsageError
from graphformer.options import suggestion

_PACKAGE = Path(graphformer.__file__).resolve().parent
_Definition = ast.ClassDef | ast.FunctionDef


def print_catalog(arguments: list[str]) -> int:
    """Print all sections, or only the named ones; return 0."""
    from rich.console import Console
    from rich.table import Table

    sections = catalog()
    for name in arguments:
        if name not in sections:
            raise UsageError(f"list: unknown section {name!r}{suggestion(name, sections)}")
    table = Table("kind", "name", "what it is", box=None, header_style="bold", pad_edge=False)
    for section in arguments or sections:
        for number, (name, doc) in enumerate(sections[section].items()):
            table.add_row(section if number == 0 else "", name, doc)
        table.add_section()
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    console.print(table)
    return 0


def catalog() -> dict[str, dict[str, str]]:
    """Section -> name -> first line of its documentation."""
    return {
        "tasks": subclasses(_PACKAGE / "tasks", "Task"),
        "patterns": subclasses(_PACKAGE / "patterns", "Pattern"),
        "networks": builders(_PACKAGE / "models"),
        "data": subclasses(_PACKAGE / "data", "DataModule"),
        "datasets": {f.stem: read_doc_line(f) for f in config_files("datasets")},
        "experiments": {f.stem: read_doc_line(f) for f in config_files("experiments")},
    }


def subclasses(source: Path, base: str) -> dict[str, str]:
    """Public concrete descendants of a class: those that no other class derives from, or exported.

    In a package these are the classes that its `__init__` exports; in a module, all of them.
    """
    classes = {d.name: d for d in _definitions(source) if isinstance(d, ast.ClassDef)}
    exported = _imported_names(source / "__init__.py") if source.is_dir() else set(classes)
    return {
        name: _doc_line(node)
        for name, node in classes.items()
        if name in exported and name != base and base in _ancestors(name, classes)
    }


def builders(source: Path) -> dict[str, str]:
    """The functions that a package exports, but for those that make no network."""
    exported = _imported_names(source / "__init__.py")
    return {
        node.name: _doc_line(node)
        for node in _definitions(source)
        if isinstance(node, ast.FunctionDef) and node.name in exported and _makes_network(node)
    }


def _definitions(source: Path) -> Iterator[_Definition]:
    for file in sorted(source.rglob("*.py")) if source.is_dir() else [source]:
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, _Definition):
                yield node


def _makes_network(node: ast.FunctionDef) -> bool:
    answer = "" if node.returns is None else ast.unparse(node.returns)
    return answer not in ("Any", "Tensor") and not answer.startswith("tuple")


def _imported_names(init: Path) -> set[str]:
    tree = ast.parse(init.read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {alias.asname or alias.name for node in imports for alias in node.names}


def _ancestors(name: str, classes: dict[str, ast.ClassDef]) -> set[str]:
    if name not in classes:
        return set()
    bases = {base.id for base in classes[name].bases if isinstance(base, ast.Name)}
    return bases.union(*(_ancestors(base, classes) for base in bases))


def _doc_line(node: _Definition) -> str:
    return (ast.get_docstring(node) or "").partition("\n")[0]
