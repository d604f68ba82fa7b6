"""Run the Python examples of the pages, each page in a folder and process of its own.

`python docs/run_examples.py [PAGE ...]` executes the blocks of a page one after the other. A block
that begins with `# not run` is skipped. A comment `# -> TEXT` after a statement is checked: the
page must have printed TEXT.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DOCS = Path(__file__).parent
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_PRINTED = re.compile(r"# -> (.*)$", re.MULTILINE)


def pages() -> list[Path]:
    """Return the pages with examples, sorted."""
    return [page for page in sorted(DOCS.rglob("*.md")) if code(page)]


def code(page: Path) -> str:
    """Return the examples of a page as one program."""
    blocks: list[str] = _BLOCK.findall(page.read_text(encoding="utf-8"))
    return "\n".join(block for block in blocks if not block.startswith("# not run"))


def run(page: Path) -> str:
    """Run the examples of a page and return what they print.

    Raises:
        RuntimeError: when an example fails, or prints something else than the page says.
    """
    program = code(page)
    paths = [str(DOCS.parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{page}: an example failed\n{done.stderr[-2000:]}")
    for expected in _PRINTED.findall(program):
        if expected.strip() not in done.stdout:
            raise RuntimeError(f"{page}: expected {expected!r}, printed\n{done.stdout[-2000:]}")
    return done.stdout


def main(names: list[str]) -> int:
    """Run pages, all by default; return the number of those that failed."""
    failed = 0
    for page in [Path(name) for name in names] or pages():
        start = time.perf_counter()
        try:
            run(page)
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            failed += 1
            print(error, file=sys.stderr, flush=True)
        else:
            print(f"ran {page} in {time.perf_counter() - start:.0f} s", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 1))
