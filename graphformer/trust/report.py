"""The parts of a report: notes, tables and plots, and their form as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

Cell = str | int | float
JSON = str | int | float | None | list["JSON"] | dict[str, "JSON"]


@dataclass(frozen=True)
class Table:
    """Rows of text and numbers under named columns."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Figure:
    """A picture in the text of the page: SVG, or HTML that is already escaped."""

    title: str
    markup: str


@dataclass
class Section:
    """One part of a report.

    Attributes:
        name: the word of `--only`.
        title: heading.
        notes: sentences about method and result.
        metrics: the part's key figures, by name; a model card lists them.
        tables, figures: in the order of the page.
    """

    name: str
    title: str
    notes: list[str] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)


@dataclass(frozen=True)
class Report:
    """The sections about one model, and what the model is.

    Attributes:
        title: name of the run.
        facts: what the model is: task, network, data, adjacency and so on, by name.
        sections: the parts.
    """

    title: str
    facts: dict[str, str]
    sections: Sequence[Section]

    def to_json(self) -> dict[str, JSON]:
        """Return facts, notes, metrics and tables; a number that is not finite becomes null."""
        return {
            "title": self.title,
            "facts": dict(self.facts),
            "sections": {section.name: _section_json(section) for section in self.sections},
        }


def _section_json(section: Section) -> JSON:
    return {
        "title": section.title,
        "notes": list(section.notes),
        "metrics": {name: _plain(value) for name, value in section.metrics.items()},
        "tables": [
            {
                "title": table.title,
                "columns": list(table.columns),
                "rows": [[_plain(cell) for cell in row] for row in table.rows],
            }
            for table in section.tables
        ],
    }


def _plain(value: Cell) -> JSON:
    """Return a number that JSON can store: it has neither NaN nor infinity."""
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None
    return value
