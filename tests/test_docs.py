"""The documentation: its links lead to pages, its examples are Python, and run."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
RESULTS = ROOT / "experiments" / "results"
PAGES = sorted(DOCS.rglob("*.md"))
_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def path_of(page: Path, link: str) -> Path:
    """The file of a link; the site has the results of the experiments as its folder `results`."""
    path = Path(os.path.normpath(page.parent / link))
    results = DOCS / "results"
    return RESULTS / path.relative_to(results) if path.is_relative_to(results) else path


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: page.stem)
def test_links_lead_to_files(page: Path) -> None:
    links = [link for link in _LINK.findall(page.read_text()) if "://" not in link]
    assert [link for link in links if not path_of(page, link).exists()] == []


def test_all_pages_are_in_the_navigation() -> None:
    def paths(entries: list[dict[str, object]]) -> set[str]:
        found: set[str] = set()
        for value in (value for entry in entries for value in entry.values()):
            found |= paths(value) if isinstance(value, list) else {str(value)}
        return found

    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    results = [f"results/{page.relative_to(RESULTS).as_posix()}" for page in RESULTS.rglob("*.md")]
    assert paths(nav) == {*(page.relative_to(DOCS).as_posix() for page in PAGES), *results}


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


def test_the_readme_fits_a_page_and_its_example_runs() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) < 80
    (example,) = _BLOCK.findall(text)
    exec(compile(example, "README.md", "exec"), {})
