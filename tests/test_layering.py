"""Imports point only down: a floor knows itself and what is below it, never what is above."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import graphformer

PACKAGE = Path(graphformer.__file__).parent
FLOORS = {
    "adjacency": 0, "patterns": 1, "ops": 1, "nn": 2, "data": 2, "models": 3,
    "pretrained": 3, "pyg": 3, "tasks": 4, "cli": 5,
}  # fmt: skip
# `__init__` is the face of the house: lazy, so that it stands on no floor.
MODULES = sorted(file for file in PACKAGE.rglob("*.py") if file != PACKAGE / "__init__.py")


def part(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_parts(file: Path) -> Iterator[str]:
    """The parts of the package that a file names in an import, wherever that stands."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            top, *rest = name.split(".")
            if top == "graphformer" and rest and rest[0] in FLOORS:
                yield rest[0]


def test_every_part_has_a_floor():
    assert {part(file) for file in MODULES} <= FLOORS.keys()


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_point_down(file: Path):
    own = part(file)
    for other in imported_parts(file):
        assert other == own or FLOORS[other] <= FLOORS[own], f"{own} imports {other}, from above"


def test_backends_do_not_import_one_another():
    """What backends share lies in `common` and `fused`; only the dispatch knows them."""
    backends = {"reference", "sdpa", "scatter", "cpu", "triton", "flex"}
    for name in backends:
        source = PACKAGE / "ops" / name
        files = source.rglob("*.py") if source.is_dir() else [source.with_suffix(".py")]
        for file in files:
            names = {
                node.module or ""
                for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
                if isinstance(node, ast.ImportFrom)
            }
            for other in backends - {name}:
                assert f"graphformer.ops.{other}" not in names, f"{file.name} imports {other}"
