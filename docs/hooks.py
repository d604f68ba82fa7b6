"""MkDocs hooks: tables from JSON and YAML files, and pages that are files of the repository."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
FILES = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Fill in the generated parts of a page."""
    name = page.file.src_uri
    if name in FILES:
        return (ROOT / FILES[name]).read_text(encoding="utf-8")
    if name == "benchmarks.md":
        results = ROOT / "experiments/results/benchmark/results.json"
        return markdown + benchmark_tables(json.loads(results.read_text(encoding="utf-8")))
    return markdown + systems_table() if name == "systems.md" else markdown


def benchmark_tables(results: dict[str, Any]) -> str:
    """Return where and when the benchmark ran, and a table for each suite with times."""
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
            rows.append(f"| {work['name']} | {peer} | {1000 * time['median']:.3g} | {of_ours} |")
    return rows


def systems_table() -> str:
    """Return a row for each experiment: its network, adjacency and command."""
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
