"""`model_card`: a report as a model card of the Hugging Face Hub, README.md with metadata."""

from __future__ import annotations

import math

import yaml

from graphformer.trust.html import format_cell
from graphformer.trust.report import Report, Section


def model_card(report: Report, *, usage: str = "", licence: str | None = None) -> str:
    """Return the text of a model card: YAML metadata with the figures, then the sections.

    The layout is that of https://huggingface.co/docs/hub/model-cards; what only a person can say,
    such as the intended use, is marked as to be filled in.

    Args:
        report: facts and figures.
        usage: Python code that loads the model.
        licence: of the model, as the Hub names it, such as "mit".
    """
    facts = [f"- **{name}:** {value}" for name, value in report.facts.items()]
    metadata = ({} if licence is None else {"license": licence}) | _metadata(report)
    start = ["## How to Get Started with the Model", "", "```python", usage, "```", ""]
    lines = [
        "---", yaml.safe_dump(metadata, sort_keys=False).rstrip(), "---", "",
        f"# Model Card for {report.title}", "",
        "## Model Details", "", *facts, "",
        *(start if usage else []),
        "## Uses", "", "[More Information Needed]", "",
        "## Bias, Risks, and Limitations", "",
        "The figures below are measured on the data of the run and say nothing about other data.",
        "", "## Evaluation", "",
    ]  # fmt: skip
    for section in report.sections:
        lines += _section_lines(section)
    return "\n".join(lines).rstrip() + "\n"


def _metadata(report: Report) -> dict[str, object]:
    metrics = [
        {"type": _slug(name), "name": name, "value": round(value, 6)}
        for section in report.sections
        for name, value in section.metrics.items()
        if math.isfinite(value)
    ]
    data = report.facts.get("data", "unknown")
    result = {
        "task": {"type": _slug(report.facts.get("task", "unknown"))},
        "dataset": {"name": data, "type": _slug(data)},
        "metrics": metrics,
    }
    metadata: dict[str, object] = {"library_name": "graphformer", "tags": ["graphformer"]}
    if metrics:  # the Hub refuses a result without metrics
        metadata["model-index"] = [{"name": report.title, "results": [result]}]
    return metadata


def _section_lines(section: Section) -> list[str]:
    lines = [f"### {section.title}", ""]
    for note in section.notes:
        lines += [note, ""]
    if section.metrics:
        figures = [[name, format_cell(value)] for name, value in section.metrics.items()]
        lines += [*_markdown_table(["figure", "value"], figures), ""]
    for table in section.tables:
        rows = [[format_cell(cell) for cell in row] for row in table.rows]
        lines += [f"**{table.title}**", "", *_markdown_table(list(table.columns), rows), ""]
    return lines


def _markdown_table(columns: list[str], rows: list[list[str]]) -> list[str]:
    body = [columns, ["---"] * len(columns), *rows]
    return [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in body]


def _slug(name: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split())
