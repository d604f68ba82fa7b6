"""The section on norms: choice items scored by log-likelihood, before and after tuning."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from graphformer.trust.norms import Norm, score_norms
from graphformer.trust.plots import bar_plot
from graphformer.trust.proportions import proportion
from graphformer.trust.report import Cell, Figure, Section, Table
from graphformer.trust.run import Run, language_model, not_applicable

NAME, TITLE = "norms", "Norms"


def norms_section(run: Run) -> Section:
    """Return how often a language model holds the right option of the run's items likeliest."""
    model = language_model(run)
    if model is None:
        return not_applicable(NAME, TITLE, run, "needs a model that generates text")
    if not run.norms:
        return not_applicable(NAME, TITLE, run, "needs choice items; pass --items FILE")
    section = Section(NAME, TITLE)
    scores = score_norms(model, run.norms, chat=run.chat)
    chance = sum(1 / len(norm.question.options) for norm in run.norms) / len(run.norms)
    section.metrics = {
        "right options": float(scores.right.double().mean()),
        "right options, likelihood by byte": float(scores.right_by_byte.double().mean()),
        "right options by chance": chance,
        "mean margin of the right option in nats": float(scores.margin.mean()),
    }
    columns = ["category", "items", "right", "95 % from", "to", "right, by byte"]
    rows = _by_category(run.norms, scores.right, scores.right_by_byte)
    if run.before is not None:
        earlier = score_norms(run.before, run.norms, chat=run.chat)
        section.metrics["right options before tuning"] = float(earlier.right.double().mean())
        own = _by_category(run.norms, earlier.right, earlier.right_by_byte)
        rows = [[*row, old[2]] for row, old in zip(rows, own, strict=True)]
        columns.append("right before tuning")
    section.notes.append(
        f"{len(run.norms)} questions about norms with options, of which one is right: the model "
        "chooses the option with the largest log-likelihood behind the question (by byte: divided "
        "by the option's length). What a model holds likely is not what it says or does; with "
        "options of different wording the choice also depends on the words."
    )
    section.tables.append(Table("Choices by category", columns, rows))
    bars = {str(row[0]): float(row[2]) for row in rows}
    plot = bar_plot(bars, y_label="share of right options")
    section.figures.append(Figure("Right options by category", plot))
    return section


def _by_category(norms: Sequence[Norm], right: Tensor, by_byte: Tensor) -> list[list[Cell]]:
    """Return category, items, share of right options with interval, and that by byte."""
    names = [norm.category for norm in norms]
    rows: list[list[Cell]] = []
    for name in dict.fromkeys([*names, "together"]):
        own = [i for i, each in enumerate(names) if name in (each, "together")]
        share = proportion(int(right[own].sum()), len(own))
        rows.append([name, len(own), *share, float(by_byte[own].double().mean())])
    return rows if len(rows) > 2 else rows[:1]
