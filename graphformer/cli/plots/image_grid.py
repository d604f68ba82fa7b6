"""A figure of images in rows, with heat maps over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Panel:
    """One image of a grid.

    Args:
        pixels: [height, width, 1 or 3], from 0 to 1.
        heat: a map [rows, columns] over the image; the less, the darker.
        title: above the image.
        frame: colour of a frame around it.
    """

    pixels: np.ndarray
    heat: np.ndarray | None = None
    title: str | None = None
    frame: str | None = None


def image_grid(
    rows: Sequence[Sequence[Panel]],
    *,
    row_titles: Sequence[str] = (),
    wide_titles: bool = False,
) -> Figure:
    """Return a figure of panels in rows.

    Args:
        rows: of any lengths.
        row_titles: at the left of each row.
        wide_titles: whether these are sentences, which are written horizontally.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    num_columns = max(map(len, rows))
    margin = 2.6 if wide_titles else 0.8
    figure = Figure(figsize=(1.35 * num_columns + margin, 1.5 * len(rows)))
    FigureCanvasAgg(figure)
    figure.set_layout_engine("constrained")
    grid = figure.subplots(len(rows), num_columns, squeeze=False)
    for all_axes, row in zip(grid, rows, strict=True):
        for axes in all_axes:
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        for axes, panel in zip(all_axes, row, strict=False):
            _draw(axes, panel)
    style = {"rotation": 0, "ha": "right"} if wide_titles else {}
    for all_axes, title in zip(grid, row_titles, strict=False):
        all_axes[0].set_ylabel(title, fontsize=8, **style)
    return figure


def _draw(axes: Axes, panel: Panel) -> None:
    height, width, channels = panel.pixels.shape
    axes.imshow(panel.pixels[..., 0] if channels == 1 else panel.pixels, "gray", vmin=0, vmax=1)
    if panel.heat is not None:
        axes.imshow(
            panel.heat,
            "inferno",
            alpha=0.6,
            extent=(-0.5, width - 0.5, height - 0.5, -0.5),
            interpolation="bilinear",
        )
    if panel.title is not None:
        axes.set_title(panel.title, fontsize=8)
    if panel.frame is not None:
        for spine in axes.spines.values():
            spine.set(visible=True, color=panel.frame, linewidth=2.5)
