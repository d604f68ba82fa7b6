"""`render_html`: a report as one HTML page that needs no other file and no network."""

from __future__ import annotations

from pathlib import Path

from graphformer.trust.report import Cell, Report


def render_html(report: Report) -> str:
    """Return the page of a report; its colours follow the reader's light or dark setting."""
    from jinja2 import Environment

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["cell"] = format_cell
    template = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    return environment.from_string(template).render(report=report)


def format_cell(value: Cell) -> str:
    """Return a number with four significant digits, or a text as it is."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
