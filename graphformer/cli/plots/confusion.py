"""The confusion matrix of a test as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from graphformer.cli.plots.saving import save_figure

MAX_DRAWN = 60
"""A picture has at most this many classes."""
_MAX_NUMBERS = 25


def draw_confusion(confusion: Tensor, names: Sequence[str]) -> Any:
    """Return a figure: counts by true (rows) and predicted (columns) class, shaded by row share.

    Args:
        confusion: counts, int64 [K, K].
        names: of the K classes.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    count = len(names)
    side = min(3 + 0.5 * count, 14)
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    shares = (confusion / confusion.sum(1, keepdim=True).clamp(min=1)).numpy()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of the true class")
    size = 9 if count <= 20 else 6
    axes.set_xticks(range(count), [_short(name) for name in names], rotation=90, fontsize=size)
    axes.set_yticks(range(count), [_short(name) for name in names], fontsize=size)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    if count <= _MAX_NUMBERS:
        for row, values in enumerate(confusion.tolist()):
            for column, value in enumerate(values):
                colour = "white" if shares[row, column] > 0.5 else "black"
                axes.text(
                    column, row, str(value), ha="center", va="center", color=colour, fontsize=size
                )
    return figure


def save_confusion(confusion: Tensor, names: Sequence[str], path: Path) -> None:
    """Write the picture as PNG, atomically."""
    save_figure(draw_confusion(confusion, names), path, dpi=120)


def _short(name: str) -> str:
    return name if len(name) <= 24 else f"{name[:23]}\N{HORIZONTAL ELLIPSIS}"
