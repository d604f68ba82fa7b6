"""The figure of `graphformer sparsify`: quality, time and memory of each pattern."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from graphformer.cli.plots.saving import save_figure
from graphformer.cli.tradeoff import Measurement

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

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
    lengths = sorted({m.length for m in measurements})
    rows = -(-len(names) // 2)
    columns = 3 if len(lengths) > 1 else 1  # curves over the length need several
    figure = Figure(figsize=(6 + 3 * columns, 5.4 + 0.25 * rows), layout="constrained")
    ratios = [1.35, 1, 1][:columns]
    axes = FigureCanvasAgg(figure).figure.subplots(
        1, columns, squeeze=False, gridspec_kw={"width_ratios": ratios}
    )[0]
    figure.suptitle(title, fontsize=15, color=INK)
    _scatter(axes[0], [m for m in measurements if m.length == lengths[-1]], measure, names)
    if columns > 1:
        _curves(axes[1], axes[2], measurements, names)
        axes[2].set_title(QUALITY_LABELS[measure], color=INK)
    qualities = [m.quality for m in measurements]
    if min(qualities) > 0 and max(qualities) > LOGARITHMIC * min(qualities):
        axes[0].set_yscale("log")
        axes[-1].set_yscale("log")
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(color="#e6eaee", linewidth=0.8)
        axis.set_axisbelow(True)
    figure.legend(
        handles=_legend(measurements, names), loc="outside lower left", ncols=2,
        frameon=False, fontsize=9,
    )  # fmt: skip
    save_figure(figure, path, dpi=130)


def _legend(measurements: Sequence[Measurement], names: Sequence[str]) -> list[Line2D]:
    """Return a line for each pattern, with its number and its edges at the longest length."""
    from matplotlib.lines import Line2D

    longest = {m.pattern: m for m in sorted(measurements, key=lambda m: m.length)}
    return [
        Line2D([], [], color=_color(number), marker="o", markersize=5, linewidth=2,
               label=f"{number + 1}   {name}, {longest[name].edges:,.0f} edges per token")
        for number, name in enumerate(names)
    ]  # fmt: skip


def _curves(
    time: Axes, quality: Axes, measurements: Sequence[Measurement], names: Sequence[str]
) -> None:
    """Draw time and quality of each pattern against the length of the texts."""
    for number, name in enumerate(names):
        points = sorted((m for m in measurements if m.pattern == name), key=lambda m: m.length)
        lengths = [m.length for m in points]
        for axis, values in (
            (time, [m.milliseconds for m in points]),
            (quality, [m.quality for m in points]),
        ):
            axis.plot(lengths, values, "o-", color=_color(number), markersize=5, linewidth=2)
    time.set_title("milliseconds per text", color=INK)
    time.set_ylim(bottom=0)
    for axis in (time, quality):
        axis.set_xticks(sorted({m.length for m in measurements}))
        axis.set_xlabel("tokens per text")


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
