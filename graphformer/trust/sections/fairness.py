"""The section on fairness: figures by group, and gaps between groups with intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from graphformer.data.text.base import LabelledData
from graphformer.trust.groups import bootstrap_gap, group_of_samples, permutation_p_value
from graphformer.trust.outputs import split_batches
from graphformer.trust.plots import bar_plot
from graphformer.trust.proportions import proportion
from graphformer.trust.report import Cell, Figure, Section, Table
from graphformer.trust.run import Run, is_classification, not_applicable

NAME, TITLE = "fairness", "Fairness"
MOST_GROUPS = 20


def fairness_section(run: Run) -> Section:
    """Return accuracy by class, and by the groups of `run.group` with gaps between them.

    Raises:
        ValueError: when the data has no such group, or it has more than 20 values.
    """
    if not is_classification(run.task):
        return not_applicable(NAME, TITLE, run, "compares the classes that are predicted")
    section = Section(NAME, TITLE)
    output, y = run.outputs("test")
    predicted = output.argmax(1)
    classes = run.data.labels if isinstance(run.data, LabelledData) else []
    section.tables.append(_by_class(predicted, y, classes))
    if run.group is None:
        section.notes.append(
            "No groups were named: --group NAME compares the groups of a column of the data "
            "(LabelledText), or of a field of its batches. The table has the recall of each class."
        )
        return section
    names, groups = groups_of_outputs(run, run.group)
    _add_groups(section, names, groups.numpy(), predicted.numpy(), y.numpy(), run)
    return section


def groups_of_outputs(run: Run, name: str) -> tuple[list[str], Tensor]:
    """Return the names of the groups, and the group of each row of `run.outputs("test")`, [B].

    Raises:
        ValueError: when the data has no such group, or it has more than 20 values or only one.
    """
    names, groups = _labelled_groups(run, name, len(run.outputs("test").y))
    if len(names) < 2 or len(names) > MOST_GROUPS:
        raise ValueError(
            f"group: got {name!r} with {len(names)} values, expected 2 to {MOST_GROUPS}; "
            "choose another column"
        )
    return names, groups


def _labelled_groups(run: Run, name: str, rows: int) -> tuple[list[str], Tensor]:
    names, groups = group_of_samples(run.data, name, max_batches=run.max_batches)
    if len(groups) == rows:
        return names, groups
    kept = [
        mask
        for batch in split_batches(run.data, "test", max_batches=run.max_batches)
        if (mask := batch.get("test_mask")) is not None
    ]
    if not kept or len(torch.cat(kept)) != len(groups) or int(torch.cat(kept).sum()) != rows:
        raise ValueError(
            f"group: got {len(groups)} values of {name!r} for {rows} labelled rows, expected one "
            "each; remove samples without a label"
        )
    return names, groups[torch.cat(kept)]


def _by_class(predicted: Tensor, y: Tensor, names: Sequence[str]) -> Table:
    rows: list[list[Cell]] = []
    for label in y.unique().tolist():
        own = predicted[y == label]
        recall = proportion(int((own == label).sum()), len(own))
        rows.append(
            [names[label] if names else label, len(own), recall.value, recall.low, recall.high]
        )
    return Table("Recall by class", ["class", "samples", "recall", "95 % from", "to"], rows)


def _add_groups(
    section: Section,
    names: list[str],
    groups: np.ndarray,
    predicted: np.ndarray,
    y: np.ndarray,
    run: Run,
) -> None:
    right = (predicted == y).astype(np.float64)
    rows: list[list[Cell]] = []
    for number, name in enumerate(names):
        own = right[groups == number]
        if len(own):
            share = proportion(int(own.sum()), len(own))
            rows.append([name, len(own), share.value, share.low, share.high])
    columns = [str(run.group), "samples", "accuracy", "95 % from", "to"]
    section.tables.append(Table(f"Accuracy by {run.group}", columns, rows))
    bars = {str(row[0]): float(row[2]) for row in rows}
    section.figures.append(Figure(f"Accuracy by {run.group}", bar_plot(bars, y_label="accuracy")))
    gaps: list[list[Cell]] = []
    classes = run.data.labels if isinstance(run.data, LabelledData) else []
    for title, values, members in _compared(right, predicted, y, classes):
        if len(np.unique(groups[members])) < 2:
            section.notes.append(f"The gap in {title} was left out: one group alone has the class.")
            continue
        pair = values[members], groups[members]
        gap = bootstrap_gap(*pair, seed=run.seed)
        gaps.append([title, *gap, permutation_p_value(*pair, seed=run.seed)])
    columns = ["gap", "largest - smallest", "95 % from", "to", "p without a gap"]
    section.tables.append(Table("Gaps between groups", columns, gaps))
    section.metrics[f"gap of accuracy by {run.group}"] = float(gaps[0][1])
    section.notes.append(
        "A gap is the largest minus the smallest mean of the groups, with a bootstrap interval; "
        "p is the share of random assignments to groups with as large a gap. Predicted rates are "
        "compared for demographic parity, rates by true class for equalized odds. "
        f"The gap of accuracy by {run.group} is {float(gaps[0][1]):.4f} (p = {gaps[0][4]:.3g}): "
        f"{_extremes(rows)}."
    )


def _extremes(rows: list[list[Cell]]) -> str:
    """Name the groups of the smallest and the largest accuracy."""
    order = sorted(rows, key=lambda row: float(row[2]))
    ends = (("lowest for", order[0]), ("highest for", order[-1]))
    return ", ".join(f"{word} {row[0]} ({float(row[2]):.4f})" for word, row in ends)


def _compared(
    right: np.ndarray, predicted: np.ndarray, y: np.ndarray, names: Sequence[str]
) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Return title, values [B], and which samples are compared, of each gap."""
    everyone = np.ones(len(y), bool)
    classes = {c: names[c] if names else str(c) for c in np.unique(y).tolist()}
    parity = [
        (f"rate of predicting {name}", (predicted == c).astype(np.float64), everyone)
        for c, name in classes.items()
    ]
    odds = [(f"recall of class {name}", right, y == c) for c, name in classes.items()]
    return [("accuracy", right, everyone), *parity, *odds]
