"""Log-log figure of scaling laws: loss and optimal size over compute, for one or more tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from graphformer.scaling.isoflop import IsoFLOP, budgets
from graphformer.scaling.kaplan import frontier
from graphformer.scaling.parametric import ParametricLaw
from graphformer.scaling.report import LawReport
from graphformer.scaling.table import Floats, RunTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLORS = ("#1b2a41", "#e4572e", "#2e86ab", "#3f9b6c", "#8b5fbf")


def draw_laws(tables: Mapping[str, tuple[RunTable, Sequence[LawReport]]]) -> Figure:
    """Return a figure of three log-log panels.

    Loss over compute with the frontier of the parametric law; loss over size at each budget, with
    the minima of the IsoFLOP parabolas; optimal size over compute.

    Args:
        tables: name -> the runs and their laws.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import ScalarFormatter

    figure = Figure(figsize=(15, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    left, middle, right = figure.subplots(1, 3)
    for number, (name, (runs, reports)) in enumerate(tables.items()):
        color = _COLORS[number % len(_COLORS)]
        laws = [report.law for report in reports]
        flops = np.geomspace(runs.C.min(), runs.C.max(), 60)
        _draw_losses(left, runs, name, color)
        _draw_profiles(middle, runs, color)
        for law in laws:
            if isinstance(law, ParametricLaw):
                _draw_parametric(left, right, law, runs, flops, (name, color))
            elif isinstance(law, IsoFLOP):
                _draw_minima(middle, right, law, flops, (name, color))
    _label(left, "training FLOPs", "loss")
    _label(middle, "parameters", "loss at equal FLOPs")
    _label(right, "training FLOPs", "optimal parameters")
    for axes in (left, middle):  # losses span less than a decade: all ticks are numbers
        axes.yaxis.set_major_formatter(ScalarFormatter())
        axes.yaxis.set_minor_formatter(ScalarFormatter())
    return figure


def _draw_losses(axes: Axes, runs: RunTable, name: str, color: str) -> None:
    axes.scatter(runs.C, runs.loss, s=14, color=color, alpha=0.5, label=name)
    best = frontier(runs)
    axes.plot(best.C, best.loss, color=color, linewidth=0.8, linestyle=":")


def _draw_profiles(axes: Axes, runs: RunTable, color: str) -> None:
    for budget in budgets(runs):
        order = np.argsort(budget.N)
        sizes, losses = budget.N[order], budget.loss[order]
        axes.plot(sizes, losses, color=color, alpha=0.5, linewidth=0.8, marker=".", markersize=4)


def _draw_parametric(
    left: Axes,
    right: Axes,
    law: ParametricLaw,
    runs: RunTable,
    flops: Floats,
    style: tuple[str, str],
) -> None:
    name, color = style
    sizes, tokens = zip(*(law.optimum(each, runs.flops_factor) for each in flops), strict=True)
    exponents = f"E {law.E:.3g}, α {law.alpha:.3f}, β {law.beta:.3f}"
    loss = law.predict(np.array(sizes), np.array(tokens))
    left.plot(flops, loss, color=color, linewidth=1.6, label=f"{name}: {exponents}")
    exponent = law.parameters["N ~ C^"]
    label = f"{name}, parametric: N ~ C^{exponent:.3f}"
    right.plot(flops, sizes, color=color, linewidth=1.6, label=label)


def _draw_minima(
    middle: Axes, right: Axes, law: IsoFLOP, flops: Floats, style: tuple[str, str]
) -> None:
    name, color = style
    sizes = [minimum.N for minimum in law.minima]
    middle.scatter(sizes, [m.loss for m in law.minima], marker="*", s=60, color=color)
    right.scatter([m.C for m in law.minima], sizes, marker="*", s=60, color=color)
    label = f"{name}, IsoFLOP: N ~ C^{law.size.exponent:.3f}"
    right.plot(flops, law.size.predict(flops), color=color, linestyle="--", label=label)


def _label(axes: Axes, x: str, y: str) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e6eaee", linewidth=0.8, which="both")
    axes.set_axisbelow(True)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8)
