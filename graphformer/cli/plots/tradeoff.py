"""The figure of `graphformer sparsify`: quality, time and memory of each pattern."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from graphformer.cli.plots.saving import save_figure
from graphformer.cli.tradeoff import Measurement

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, GREY = "#1b2a41", "#9aa5b1"
COLORS = (
    "#1b2a41", "#2e86ab", "#e4572e", "#3f9b6c", "#8b5fbf", "#d99a2b", "#c0497a", "#5c6b7a",
    "#17a2a2", "#7a5c3e",
)  # fmt: skip
QUALITY_LABELS = {
    "cosine": "cosine to the original, higher is better",
    "accuracy": "accuracy, higher is better",
    "perplexity": "perplexity, lower is better",
}


LOGARITHMIC = 4.0
"""A quality whose largest value is this many times the smallest has a logarithmic axis."""


def draw_tradeoff(
    measurements: Sequence[Measurement], measure: str, title: str, path: Path
) -> None:
    """Draw quality against time at the longest length, and time and quality against length.

    Args:
        measurements: all patterns at all lengths.
        measure: the quality, a key of `QUALITY_LABELS`.
        title: title of the figure.
        path: the image file to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(m.pattern for m in measurements))
    rows = -(-len(names) // 2)
    figure = Figure(figsize=(15, 5.4 + 0.25 * rows), layout="constrained")
    left, middle, right = FigureCanvasAgg(figure).figure.subplots(
        1, 3, gridspec_kw={"width_ratios": [1.35, 1, 1]}
    )
    figure.suptitle(title, fontsize=15, color=INK)
    longest = max(m.length for m in measurements)
    _scatter(left, [m for m in measurements if m.length == longest], measure, names)
    lines = []
    for number, name in enumerate(names):
        points = sorted((m for m in measurements if m.pattern == name), key=lambda m: m.length)
        label = f"{number + 1}   {name}, {points[-1].edges:,.0f} edges per token"
        style = {"color": _color(number), "marker": "o", "markersize": 5, "linewidth": 2}
        lengths = [m.length for m in points]
        lines += middle.plot(lengths, [m.milliseconds for m in points], label=label, **style)
        right.plot(lengths, [m.quality for m in points], **style)
    figure.legend(handles=lines, loc="outside lower left", ncols=2, frameon=False, fontsize=9)
    middle.set_title("milliseconds per text", color=INK)
    right.set_title(QUALITY_LABELS[measure], color=INK)
    middle.set_ylim(bottom=0)
    for axis in (middle, right):
        axis.set_xticks(sorted({m.length for m in measurements}))
        axis.set_xlabel("tokens per text")
    qualities = [m.quality for m in measurements]
    if min(qualities) > 0 and max(qualities) > LOGARITHMIC * min(qualities):
        left.set_yscale("log")
        right.set_yscale("log")
    for axis in (left, middle, right):
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(color="#e6eaee", linewidth=0.8)
        axis.set_axisbelow(True)
    save_figure(figure, path, dpi=130)


def _color(number: int) -> str:
    return COLORS[number % len(COLORS)]


def _scatter(axis: Axes, points: Sequence[Measurement], measure: str, names: Sequence[str]) -> None:
    """Draw quality against time, with point sizes by memory and the numbers of the legend."""
    front = _pareto_front(points, measure)
    axis.plot(
        [m.milliseconds for m in front],
        [m.quality for m in front],
        color=GREY,
        linewidth=1.2,
        linestyle="--",
        zorder=1,
    )
    peak = max(m.memory for m in points) or 1
    for point in points:
        number = names.index(point.pattern)
        axis.scatter(
            point.milliseconds,
            point.quality,
            s=60 + 240 * point.memory / peak,
            color=_color(number),
            alpha=0.85,
            edgecolors="white",
            zorder=2,
        )
        axis.annotate(
            str(number + 1),
            (point.milliseconds, point.quality),
            xytext=(9, 7),
            textcoords="offset points",
            fontsize=10,
            color=INK,
        )
    axis.margins(0.1, 0.12)
    axis.set_xlabel("milliseconds per text")
    axis.set_ylabel(QUALITY_LABELS[measure])
    axis.set_title(f"{points[0].length} tokens per text; point size: memory", color=INK)


def _pareto_front(points: Sequence[Measurement], measure: str) -> list[Measurement]:
    """Return the points that no other surpasses in both time and quality, sorted by time."""
    sign = -1 if measure == "perplexity" else 1
    front: list[Measurement] = []
    for point in sorted(points, key=lambda m: (m.milliseconds, -sign * m.quality)):
        if not front or sign * point.quality > sign * front[-1].quality:
            front.append(point)
    return front
