"""The documentation: its links lead to pages, its examples are Python, and run."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: page.stem)
def test_links_lead_to_files(page: Path) -> None:
    links = [link for link in _LINK.findall(page.read_text()) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_all_pages_are_in_the_navigation() -> None:
    def paths(entries: list[dict[str, object]]) -> set[str]:
        found: set[str] = set()
        for value in (value for entry in entries for value in entry.values()):
            found |= paths(value) if isinstance(value, list) else {str(value)}
        return found

    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    assert paths(nav) == {page.relative_to(DOCS).as_posix() for page in PAGES}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_examples_are_python(page: Path) -> None:
    for block in _BLOCK.findall(page.read_text()):
        ast.parse(block)


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if "```python" in page.read_text()], ids=lambda page: page.stem
)
def test_examples_run(page: Path) -> None:
    command = [sys.executable, str(DOCS / "run_examples.py"), str(page)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
