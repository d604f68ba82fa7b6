"""Writing of figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from graphformer.cli.run_dir import atomic_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save_figure(figure: Figure, path: Path, *, dpi: int) -> None:
    """Write a figure as PNG, atomically."""
    with atomic_file(path) as file:
        figure.savefig(file, format="png", dpi=dpi)
