"""The picture of a trade-off: what a sparser adjacency saves, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from graphformer.cli.tradeoff import Measurement

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, GREY = "#1b2a41", "#9aa5b1"
COLORS = (
    "#1b2a41", "#2e86ab", "#e4572e", "#3f9b6c", "#8b5fbf", "#d99a2b", "#c0497a", "#5c6b7a",
    "#17a2a2", "#7a5c3e",
)  # fmt: skip
BETTER = {
    "cosine": "cosine to the original, higher is better",
    "accuracy": "accuracy, higher is better",
    "perplexity": "perplexity, lower is better",
}


def draw_tradeoff(figures: Sequence[Measurement], measure: str, title: str, path: Path) -> None:
    """Draw quality against time at the longest length, and time and quality against length."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 5.6), layout="constrained")
    left, middle, right = FigureCanvasAgg(figure).figure.subplots(
        1, 3, gridspec_kw={"width_ratios": [1.35, 1, 1]}
    )
    figure.suptitle(title, fontsize=15, color=INK)
    names = list(dict.fromkeys(each.pattern for each in figures))
    colors = {name: COLORS[number % len(COLORS)] for number, name in enumerate(names)}
    _cloud(left, figures, measure, colors)
    for name in names:
        own = sorted((each for each in figures if each.pattern == name), key=lambda e: e.length)
        style = {"color": colors[name], "marker": "o", "markersize": 5, "linewidth": 2}
        lengths = [each.length for each in own]
        middle.plot(lengths, [each.milliseconds for each in own], label=name, **style)
        right.plot(lengths, [each.quality for each in own], **style)
    middle.set_title("time of a text, milliseconds", color=INK)
    right.set_title(BETTER[measure], color=INK)
    middle.set_ylim(bottom=0)
    for axis in (middle, right):
        axis.set_xticks(sorted({each.length for each in figures}))
        axis.set_xlabel("tokens a text")
    middle.legend(frameon=False, fontsize=8)
    for axis in (left, middle, right):
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(color="#e6eaee", linewidth=0.8)
        axis.set_axisbelow(True)
    figure.savefig(path, dpi=130)


def _cloud(
    axis: Axes, figures: Sequence[Measurement], measure: str, colors: dict[str, str]
) -> None:
    """Quality against time at the longest length; a point's size is its memory."""
    longest = max(each.length for each in figures)
    own = [each for each in figures if each.length == longest]
    most = max(each.memory for each in own) or 1
    front = _front(own, measure)
    axis.plot(
        [e.milliseconds for e in front],
        [e.quality for e in front],
        color=GREY,
        linewidth=1.2,
        linestyle="--",
        zorder=1,
    )
    middle = (min(e.milliseconds for e in own) + max(e.milliseconds for e in own)) / 2
    heights = _spread([e.quality for e in own])
    for each, height in zip(own, heights, strict=True):
        axis.scatter(
            each.milliseconds,
            each.quality,
            s=60 + 240 * each.memory / most,
            color=colors[each.pattern],
            alpha=0.85,
            edgecolors="white",
            zorder=2,
        )
        right = each.milliseconds > middle
        axis.annotate(
            f"{each.pattern}\n{each.edges:.0f} edges a token",
            (each.milliseconds, each.quality),
            xytext=(-34 if right else 34, height),
            textcoords=("offset points", "data"),
            ha="right" if right else "left",
            va="center",
            fontsize=8,
            color=INK,
            arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.7, "shrinkB": 7},
        )
    axis.margins(0.18, 0.16)
    axis.set_xlabel("milliseconds a text")
    axis.set_ylabel(BETTER[measure])
    axis.set_title(f"at {longest} tokens; a larger point takes more memory", color=INK)


def _spread(values: Sequence[float], gap: float = 0.085) -> list[float]:
    """Heights for labels: near the values, but a share of their range apart."""
    step = gap * (max(values) - min(values) or 1.0)
    order = sorted(range(len(values)), key=lambda number: values[number], reverse=True)
    heights = list(values)
    for above, below in pairwise(order):
        heights[below] = min(heights[below], heights[above] - step)
    return heights


def _front(own: Sequence[Measurement], measure: str) -> list[Measurement]:
    """Those that no other beats in both time and quality, by time."""
    sign = -1 if measure == "perplexity" else 1
    front: list[Measurement] = []
    for each in sorted(own, key=lambda e: (e.milliseconds, -sign * e.quality)):
        if not front or sign * each.quality > sign * front[-1].quality:
            front.append(each)
    return front
