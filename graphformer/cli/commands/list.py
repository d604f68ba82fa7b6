"""`graphformer list`: tasks, patterns, networks and data, read from the sources without imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

import graphformer
from graphformer.cli.config.files import config_files, read_doc_line
from graphformer.cli.errors import UsageError
from graphformer.options import suggestion

_PACKAGE = Path(graphformer.__file__).resolve().parent
_Definition = ast.ClassDef | ast.FunctionDef


def main(argv: Sequence[str]) -> int:
    """Print all sections, or the named ones; return 0.

    Raises:
        UsageError: when there is no such section.
    """
    from rich.console import Console
    from rich.table import Table

    sections = catalog()
    if set(argv) & {"-h", "--help"}:
        print(f"usage: graphformer list [{' | '.join(sections)}] ...\n\nList what there is.")
        return 0
    for name in argv:
        if name not in sections:
            raise UsageError(f"list: unknown section {name!r}{suggestion(name, sections)}")
    table = Table("kind", "name", "description", box=None, header_style="bold", pad_edge=False)
    for section in argv or sections:
        for number, (name, doc) in enumerate(sections[section].items()):
            table.add_row(section if number == 0 else "", name, doc)
        table.add_section()
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    console.print(table)
    return 0


def catalog() -> dict[str, dict[str, str]]:
    """Return section -> name -> first line of its documentation."""
    return {
        "tasks": subclasses(_PACKAGE / "tasks", "Task"),
        "patterns": subclasses(_PACKAGE / "patterns", "Pattern"),
        "networks": builders(_PACKAGE / "models"),
        "data": subclasses(_PACKAGE / "data", "DataModule"),
        "datasets": {f.stem: read_doc_line(f) for f in config_files("datasets")},
        "experiments": {f.stem: read_doc_line(f) for f in config_files("experiments")},
    }


def subclasses(folder: Path, base: str) -> dict[str, str]:
    """Return the exported descendants of a class in a package: name -> first line."""
    classes = {d.name: d for d in _definitions(folder) if isinstance(d, ast.ClassDef)}
    exported = _exported_names(folder / "__init__.py")
    return {
        name: _doc_line(node)
        for name, node in classes.items()
        if name in exported and base in _ancestors(name, classes)
    }


def builders(folder: Path) -> dict[str, str]:
    """Return the exported functions of a package that return networks: name -> first line."""
    exported = _exported_names(folder / "__init__.py")
    return {
        node.name: _doc_line(node)
        for node in _definitions(folder)
        if isinstance(node, ast.FunctionDef) and node.name in exported and _returns_network(node)
    }


def _definitions(folder: Path) -> Iterator[_Definition]:
    for file in sorted(folder.rglob("*.py")):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, _Definition):
                yield node


def _returns_network(node: ast.FunctionDef) -> bool:
    returned = "" if node.returns is None else ast.unparse(node.returns)
    return returned not in ("Any", "Tensor") and not returned.startswith(("tuple", "list"))


def _exported_names(init: Path) -> set[str]:
    """Return `__all__` of a package."""
    for node in ast.parse(init.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


def _ancestors(name: str, classes: dict[str, ast.ClassDef]) -> set[str]:
    if name not in classes:
        return set()
    bases = {ast.unparse(base).partition("[")[0] for base in classes[name].bases}
    return bases.union(*(_ancestors(base, classes) for base in bases))


def _doc_line(node: _Definition) -> str:
    return (ast.get_docstring(node) or "").partition("\n")[0]
