"""Training curves of a run, from its `metrics.csv`."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path
from typing import Any

from graphformer.cli.errors import UsageError


def draw_curves(run: Path) -> Any:
    """Return a figure with one panel per metric over the steps of a run.

    Raises:
        UsageError: when the run has no metrics.
    """
    curves = read_curves(run)
    names = sorted({name.rpartition("/")[2] for name in curves})
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(names), 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for full, points in sorted(curves.items()):
            if full.rpartition("/")[2] == name:
                axes.plot(*zip(*points, strict=True), label=full, marker="." * (len(points) < 40))
        axes.set_xlabel("step")
        axes.set_title(name)
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def read_curves(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Return metric -> (step, value) of a run's folder, or of a checkpoint in it.

    Raises:
        UsageError: when there is no `metrics.csv`, or it is empty.
    """
    folder = run.parent.parent if run.is_file() else run
    path = folder / "metrics.csv"
    if not path.is_file():
        raise UsageError(f"{folder} contains no metrics.csv: set --ckpt to the folder of a run")
    curves: dict[str, list[tuple[int, float]]] = defaultdict(list)
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for name, value in row.items():
                if name not in ("step", "epoch") and value:
                    curves[name].append((int(row["step"]), float(value)))
    if not curves:
        raise UsageError(f"{path} contains no metrics yet")
    return dict(curves)
