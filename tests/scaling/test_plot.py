"""The figure of scaling laws: panels, scales and legends."""

from __future__ import annotations

import numpy as np
from helpers.scaling import CHINCHILLA, REPLICATION, isoflop_table

from graphformer.scaling import LawReport, RunTable, draw_laws, fit_isoflop


def test_two_tables_are_in_one_figure_of_log_log_panels() -> None:
    tables = {}
    for name, law in (("triangle", CHINCHILLA), ("window", REPLICATION)):
        runs = isoflop_table(law)
        laws = [LawReport("parametric", law), LawReport("isoflop", fit_isoflop(runs))]
        tables[name] = (runs, [*laws, LawReport("kaplan", reason="too few runs")])
    left, _, right = panels = draw_laws(tables).axes
    assert all(axes.get_xscale() == axes.get_yscale() == "log" for axes in panels)
    labels = [text.get_text() for text in right.get_legend().get_texts()]
    exponent = f"{CHINCHILLA.parameters['N ~ C^']:.3f}"
    assert labels[0] == f"triangle, parametric: N ~ C^{exponent}"
    assert [label.split(":")[0] for label in labels[2:]] == [
        "window, parametric",
        "window, IsoFLOP",
    ]
    assert "window: E 1.82, α 0.348, β 0.366" in [
        text.get_text() for text in left.get_legend().get_texts()
    ]


def test_without_budgets_the_losses_are_drawn_over_tokens() -> None:
    sizes, ratios = np.meshgrid([2e4, 4e4, 7e4], [5.0, 10.0, 20.0])
    N, D = sizes.flatten(), (sizes * ratios).flatten()
    runs = RunTable.build(N=N, D=D, loss=REPLICATION.predict(N, D))
    axes = draw_laws({"runs": (runs, [LawReport("parametric", REPLICATION)])}).axes[1]
    assert axes.get_xlabel() == "training tokens"
    assert len(axes.get_lines()) == 3
