"""The figure of `graphformer sparsify`: quality, time and memory of each pattern."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
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

    figure = Figure(figsize=(15, 5.6), layout="constrained")
    left, middle, right = FigureCanvasAgg(figure).figure.subplots(
        1, 3, gridspec_kw={"width_ratios": [1.35, 1, 1]}
    )
    figure.suptitle(title, fontsize=15, color=INK)
    names = list(dict.fromkeys(m.pattern for m in measurements))
    colors = {name: COLORS[number % len(COLORS)] for number, name in enumerate(names)}
    _scatter(left, measurements, measure, colors)
    for name in names:
        points = sorted((m for m in measurements if m.pattern == name), key=lambda m: m.length)
        style = {"color": colors[name], "marker": "o", "markersize": 5, "linewidth": 2}
        lengths = [m.length for m in points]
        middle.plot(lengths, [m.milliseconds for m in points], label=name, **style)
        right.plot(lengths, [m.quality for m in points], **style)
    middle.set_title("milliseconds per text", color=INK)
    right.set_title(QUALITY_LABELS[measure], color=INK)
    middle.set_ylim(bottom=0)
    for axis in (middle, right):
        axis.set_xticks(sorted({m.length for m in measurements}))
        axis.set_xlabel("tokens per text")
    middle.legend(frameon=False, fontsize=8)
    for axis in (left, middle, right):
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(color="#e6eaee", linewidth=0.8)
        axis.set_axisbelow(True)
    save_figure(figure, path, dpi=130)


def _scatter(
    axis: Axes, measurements: Sequence[Measurement], measure: str, colors: dict[str, str]
) -> None:
    """Draw quality against time at the longest length, with point sizes by memory."""
    longest = max(m.length for m in measurements)
    points = [m for m in measurements if m.length == longest]
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
    middle = (min(m.milliseconds for m in points) + max(m.milliseconds for m in points)) / 2
    heights = _separate([m.quality for m in points])
    for point, height in zip(points, heights, strict=True):
        axis.scatter(
            point.milliseconds,
            point.quality,
            s=60 + 240 * point.memory / peak,
            color=colors[point.pattern],
            alpha=0.85,
            edgecolors="white",
            zorder=2,
        )
        _annotate(axis, point, height, to_left=point.milliseconds > middle)
    axis.margins(0.18, 0.16)
    axis.set_xlabel("milliseconds per text")
    axis.set_ylabel(QUALITY_LABELS[measure])
    axis.set_title(f"{longest} tokens per text; point size: memory", color=INK)


def _annotate(axis: Axes, point: Measurement, height: float, *, to_left: bool) -> None:
    axis.annotate(
        f"{point.pattern}\n{point.edges:.0f} edges per token",
        (point.milliseconds, point.quality),
        xytext=(-34 if to_left else 34, height),
        textcoords=("offset points", "data"),
        ha="right" if to_left else "left",
        va="center",
        fontsize=8,
        color=INK,
        arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.7, "shrinkB": 7},
    )


def _separate(values: Sequence[float], gap: float = 0.085) -> list[float]:
    """Return heights of labels near the values, at least a share `gap` of their range apart."""
    step = gap * (max(values) - min(values) or 1.0)
    order = sorted(range(len(values)), key=lambda number: values[number], reverse=True)
    heights = list(values)
    for above, below in pairwise(order):
        heights[below] = min(heights[below], heights[above] - step)
    return heights


def _pareto_front(points: Sequence[Measurement], measure: str) -> list[Measurement]:
    """Return the points that no other surpasses in both time and quality, sorted by time."""
    sign = -1 if measure == "perplexity" else 1
    front: list[Measurement] = []
    for point in sorted(points, key=lambda m: (m.milliseconds, -sign * m.quality)):
        if not front or sign * point.quality > sign * front[-1].quality:
            front.append(point)
    return front
