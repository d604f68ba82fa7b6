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

    Loss over compute with the frontier of the parametric law, dotted where its optimal sizes are
    beyond those of the runs; loss over size at each budget, with the minima of the IsoFLOP
    parabolas, or without such budgets over tokens for each size; optimal size over compute.

    Args:
        tables: name -> the runs and their laws.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter, ScalarFormatter

    figure = Figure(figsize=(15, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    left, middle, right = figure.subplots(1, 3)
    has_budgets = any(_has_budgets(runs) for runs, _ in tables.values())
    for number, (name, (runs, reports)) in enumerate(tables.items()):
        color = _COLORS[number % len(_COLORS)]
        laws = [report.law for report in reports]
        flops = np.geomspace(runs.C.min(), runs.C.max(), 60)
        _draw_losses(left, runs, name, color)
        parametric = next((law for law in laws if isinstance(law, ParametricLaw)), None)
        if has_budgets:
            _draw_profiles(middle, runs, color)
        else:
            _draw_sizes(middle, runs, parametric, color)
        for law in laws:
            if isinstance(law, ParametricLaw):
                _draw_parametric(left, right, law, runs, flops, (name, color))
            elif isinstance(law, IsoFLOP):
                _draw_minima(middle, right, law, flops, (name, color))
    _label(left, "training FLOPs", "loss")
    if has_budgets:
        _label(middle, "parameters", "loss at equal FLOPs")
    else:
        _label(middle, "training tokens", "loss of each size, and the parametric law")
    _label(right, "training FLOPs", "optimal parameters")
    for axes in (left, middle):  # losses span less than a decade: all ticks are numbers
        axes.yaxis.set_major_formatter(ScalarFormatter())
        axes.yaxis.set_minor_formatter(ScalarFormatter())
    middle.xaxis.set_minor_formatter(NullFormatter())  # sizes or tokens span about a decade
    return figure


def _draw_losses(axes: Axes, runs: RunTable, name: str, color: str) -> None:
    axes.scatter(runs.C, runs.loss, s=14, color=color, alpha=0.5, label=name)
    best = frontier(runs)
    axes.plot(best.C, best.loss, color=color, linewidth=0.8, linestyle="--", alpha=0.6)


def _draw_profiles(axes: Axes, runs: RunTable, color: str) -> None:
    for budget in budgets(runs):
        order = np.argsort(budget.N)
        sizes, losses = budget.N[order], budget.loss[order]
        axes.plot(sizes, losses, color=color, alpha=0.5, linewidth=0.8, marker=".", markersize=4)


def _has_budgets(runs: RunTable) -> bool:
    """Whether a budget has three sizes, as an IsoFLOP parabola needs."""
    return any(len(np.unique(budget.N)) > 2 for budget in budgets(runs))


def _draw_sizes(axes: Axes, runs: RunTable, law: ParametricLaw | None, color: str) -> None:
    """Draw the losses of each size over tokens, and the law's lines."""
    for size in np.unique(runs.N):
        own = runs.select(runs.N == size)
        axes.scatter(own.D, own.loss, s=14, color=color, alpha=0.5)
        if law is not None:
            tokens = np.geomspace(own.D.min(), own.D.max(), 30)
            axes.plot(tokens, law.predict(size, tokens), color=color, linewidth=0.8)


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
    exponent = law.parameters["N ~ C^"]
    label = f"{name}, parametric: N ~ C^{exponent:.3f}"
    inside = (np.array(sizes) >= runs.N.min()) & (np.array(sizes) <= runs.N.max())
    for axes, y, text in ((left, loss, f"{name}: {exponents}"), (right, np.array(sizes), label)):
        axes.plot(flops, y, color=color, linewidth=1.0, linestyle=":")
        axes.plot(flops, np.where(inside, y, np.nan), color=color, linewidth=1.6, label=text)


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
