"""Plots as SVG for a page: text and axes in the page's own colour, so light and dark both work."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

TEXT = "#010203"
"""Stands for the page's text colour; replaced by `currentColor` in the SVG."""
COLORS = ("#4c8dd6", "#e0803a", "#3fa66b", "#b3609f", "#c9a227", "#7f8790")
"""Colours of lines, legible on white and on black."""


@dataclass(frozen=True)
class Line:
    """Points of a line, with an optional band from `low` to `high`."""

    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


def line_plot(
    lines: Mapping[str, Line],
    *,
    x_label: str,
    y_label: str,
    diagonal: bool = False,
    y_range: tuple[float, float] | None = None,
) -> str:
    """Return a plot of named lines as SVG; an axis of whole numbers has whole ticks.

    Args:
        lines: by their name in the legend.
        x_label, y_label: of the axes.
        diagonal: draw y = x from 0 to 1.
        y_range: ends of the y-axis; None fits them to the lines.
    """
    figure, axes = _axes(x_label, y_label)
    if diagonal:
        axes.plot([0, 1], [0, 1], linestyle=":", color=TEXT, linewidth=1)
    for (name, line), color in zip(lines.items(), _cycle(len(lines)), strict=True):
        marker = "o" if len(line.x) <= 30 else None
        axes.plot(line.x, line.y, label=name, color=color, marker=marker, markersize=3.5)
        if line.low is not None and line.high is not None:
            axes.fill_between(line.x, line.low, line.high, color=color, alpha=0.2, linewidth=0)
    if y_range is not None:
        axes.set_ylim(*y_range)
    if all(float(x).is_integer() for line in lines.values() for x in line.x):
        axes.xaxis.get_major_locator().set_params(integer=True)
    if len(lines) > 1:
        axes.legend(frameon=False, labelcolor=TEXT, fontsize=8)
    return to_svg(figure)


def bar_plot(bars: Mapping[str, float], *, y_label: str) -> str:
    """Return a plot of named bars as SVG."""
    figure, axes = _axes("", y_label)
    axes.bar(list(bars), list(bars.values()), color=COLORS[0], width=0.6)
    if len(bars) > 4:
        axes.tick_params(axis="x", labelrotation=20)
    return to_svg(figure)


def _cycle(count: int) -> list[str]:
    return [COLORS[i % len(COLORS)] for i in range(count)]


def new_figure(size: tuple[float, float]) -> Any:
    """Return an empty matplotlib figure of a width and height in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=size, layout="constrained")


def _axes(x_label: str, y_label: str) -> tuple[Any, Any]:
    figure = new_figure((4.6, 3.2))
    axes = figure.add_subplot()
    axes.set_xlabel(x_label, color=TEXT)
    axes.set_ylabel(y_label, color=TEXT)
    axes.tick_params(colors=TEXT, labelsize=8)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(TEXT)
    axes.grid(alpha=0.25, color=TEXT, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.set_facecolor("none")
    return figure, axes


def to_svg(figure: Any) -> str:
    """Return a figure as an SVG element whose black is the text colour of the page around it."""
    from matplotlib import rc_context

    text = io.StringIO()
    # Fixed ids and no date: the same report has the same bytes.
    with rc_context({"svg.hashsalt": "graphformer", "svg.fonttype": "path"}):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :].replace(TEXT, "currentColor")
