"""MkDocs hooks: pages and tables from files of the repository, and from the code."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import re
from pathlib import Path
from typing import Any

import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
FILES = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
RESULTS = ROOT / "experiments" / "results"
_CODE = re.compile(r"`[^`\n]+`")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the results of the experiments, pages and pictures, as the folder `results`."""
    for path in sorted(RESULTS.rglob("*")):
        if path.suffix in (".md", ".png", ".json"):
            name = f"results/{path.relative_to(RESULTS).as_posix()}"
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Fill in the generated parts of a page."""
    name = page.file.src_uri
    if name in FILES:
        markdown = (ROOT / FILES[name]).read_text(encoding="utf-8")
    if name in GENERATED:
        markdown += GENERATED[name]()
    # GitHub needs \| inside the code of a table, Python-Markdown shows the backslash.
    return _CODE.sub(lambda code: code[0].replace("\\|", "|"), markdown)


def benchmark_tables() -> str:
    """Return where and when the benchmark ran, and a table for each suite with times."""
    results = json.loads((RESULTS / "benchmark" / "results.json").read_text(encoding="utf-8"))
    about = results["about"]
    packages = ", ".join(f"{name} {version}" for name, version in about["packages"].items())
    parts = [f"{about['date']}, {about['processor']}, {about['threads']} threads; {packages}.\n"]
    for suite, works in results["suites"].items():
        rows = [row for work in works for row in benchmark_rows(work)]
        if rows:
            head = "| work | peer | forward + backward, ms | of ours |\n| --- | --- | --- | --- |"
            parts.append("\n".join([f"\n## {suite}\n", head, *rows]) + "\n")
    return "\n".join(parts)


def benchmark_rows(work: Any) -> list[str]:
    """Return a row for each peer that was timed."""
    rows = []
    for peer, times in (work.get("peers", {}) if isinstance(work, dict) else {}).items():
        time = times.get("forward + backward") if isinstance(times, dict) else None
        if time is not None:
            ratio = times.get("forward + backward ratio", {}).get("median")
            of_ours = "" if ratio is None else f"{ratio:.3g}x"
            rows.append(f"| {work['name']} | {peer} | {1000 * time['median']:.4g} | {of_ours} |")
    return rows


def systems_table() -> str:
    """Return a row for each experiment: its network and adjacency."""
    rows = ["| experiment | what | network | adjacency |", "| --- | --- | --- | --- |"]
    for file in sorted((ROOT / "experiments").glob("*.yaml")):
        text = file.read_text(encoding="utf-8")
        settings = yaml.safe_load(text)["model"]["init_args"]
        network = settings.get("network", settings.get("generator")) or {}
        what = text.partition("\n")[0].lstrip("# ")
        rows.append(
            f"| `{file.stem}` | {what} | {class_name(network)} "
            f"| {class_name(settings.get('adjacency'))} |"
        )
    return "\n".join(rows) + "\n"


def class_name(settings: Any) -> str:
    """Return the class or function that settings name, parts of a union joined by `|`."""
    if not settings:
        return ""
    if isinstance(settings, str):
        return settings
    parts = (settings.get("init_args") or {}).get("patterns")
    if parts:
        return " \\| ".join(map(class_name, parts))
    return str(settings.get("class_path", "")).rpartition(".")[2]


def batch_fields() -> str:
    """Return a table for each part of `Batch`'s docstring, without importing torch."""
    module = ast.parse((ROOT / "graphformer" / "batch_type.py").read_text(encoding="utf-8"))
    cls = next(node for node in module.body if isinstance(node, ast.ClassDef))
    parts = [f"## {title}\n\n{body}" for title, body in fields_of(ast.get_docstring(cls) or "")]
    return "\n".join(parts)


def fields_of(docstring: str) -> list[tuple[str, str]]:
    """Return the title and the table of fields of each section of a docstring."""
    found = []
    for title, body in re.findall(r"^(\w[^\n]*):\n((?:    .*\n?)+)", docstring, re.MULTILINE):
        rows = ["| field | meaning |", "| --- | --- |"]
        for field in re.sub(r"\n {5,}", " ", body.rstrip()).splitlines():
            names, _, meaning = field.strip().partition(": ")
            cells = ", ".join(f"`{name.strip(' .')}`" for name in names.split(","))
            rows.append(f"| {cells} | {meaning} |")
        found.append((title, "\n".join(rows) + "\n"))
    return found


def command_help() -> str:
    """Return the options of every command, as `--help` prints them."""
    from graphformer.cli import COMMANDS, main

    os.environ["COLUMNS"] = "100"  # width of the text of argparse
    parts = []
    for command in COMMANDS:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            main([command, "--help"])
        parts.append(f"## {command}\n\n```text\n{printed.getvalue().strip()}\n```\n")
    return "\n".join(parts)


GENERATED = {
    "benchmarks.md": benchmark_tables,
    "batch.md": batch_fields,
    "systems.md": systems_table,
    "reference/command_line.md": command_help,
}
"""What is appended to a page, by its path."""
