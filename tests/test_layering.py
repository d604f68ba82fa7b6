"""The order of layers, and that files do not import one another in a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import networkx
import pytest

import graphformer

PACKAGE = Path(graphformer.__file__).parent
LAYERS = {
    "batch_type": 0, "deprecated": 0, "jit": 0, "options": 0, "recorded": 0,
    "adjacency": 1, "patterns": 2, "ops": 2,
    "nn": 3, "data": 4, "distributed": 5,
    "pyg": 6, "models": 7, "pretrained": 8, "tasks": 9,
    "trust": 10, "scaling": 10, "planning": 10, "export": 10, "cli": 11,
    "trained": 12, "__main__": 12,
}  # fmt: skip
"""Each layer may import itself, those of a smaller number, and nothing else."""
ONE_CLASS = {("graphformer.adjacency.base", "graphformer.adjacency.csr")}
"""Imports for type checkers that close a circle: `Adjacency.to_csr` returns a subclass."""


def module_name(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(file): file for file in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(file.read_text(encoding="utf-8")) for name, file in FILES.items()}


def imports(name: str) -> Iterator[tuple[str, str]]:
    """(module, name) of all imports from the package in a file, wherever they stand."""
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if is_ours(alias.name))
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative import"
            if is_ours(node.module or ""):
                yield from ((node.module or "", alias.name) for alias in node.names)


def is_ours(module: str) -> bool:
    return module.split(".")[0] == "graphformer"


EXPORTS = {
    (package, name): module
    for package, file in FILES.items()
    if file.name == "__init__.py"
    for module, name in imports(package)
    if module != package
}


def defining_file(module: str, name: str) -> str:
    """The file that defines an imported name, looked up through `__init__` files."""
    if (module, name) in EXPORTS:
        return defining_file(EXPORTS[module, name], name)
    return f"{module}.{name}" if f"{module}.{name}" in FILES else module


def targets(name: str) -> set[str]:
    return {defining_file(*imported) for imported in imports(name)} - {name}


def layer(module: str) -> str | None:
    """The layer of a module; None for the package's own `__init__`."""
    return module.split(".")[1] if "." in module else None


def test_every_file_has_a_layer():
    assert {layer(name) for name in FILES} - {None} <= LAYERS.keys()


@pytest.mark.parametrize("name", [name for name in FILES if layer(name)])
def test_imports_point_down(name: str):
    own = layer(name)
    for other in {layer(target) for target in targets(name)} - {own, None}:
        assert LAYERS[other] < LAYERS[own], f"{name} imports from {other}, which is not below it"


def test_no_file_imports_itself_through_others():
    """Imports in functions and for type checkers count; `__init__` files are looked through."""
    graph = networkx.DiGraph(
        (name, target)
        for name in FILES
        if layer(name) and FILES[name].name != "__init__.py"
        for target in targets(name)
        if (name, target) not in ONE_CLASS
    )
    assert not [
        sorted(files) for files in networkx.strongly_connected_components(graph) if len(files) > 1
    ]


def test_folders_hold_about_a_dozen_files():
    allowed = {PACKAGE / "nn": 21, PACKAGE / "cli" / "commands": 20}  # one file a command
    for folder in {file.parent for file in FILES.values()}:
        count = sum(file.parent == folder and file.name != "__init__.py" for file in FILES.values())
        assert count <= allowed.get(folder, 15), f"{folder} holds {count} files"


def test_backends_do_not_import_one_another():
    """Backends share `common` and `custom_op`; only `select` knows them all."""
    backends = {"reference", "sdpa", "scatter", "cpu", "triton", "flex"}
    for name in FILES:
        if name.startswith("graphformer.ops.") and name.split(".")[2] in backends:
            for target in targets(name):
                other = target.split(".")[2] if target.startswith("graphformer.ops.") else None
                assert other not in backends - {name.split(".")[2]}, f"{name} imports {target}"
