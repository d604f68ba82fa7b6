"""The part of the section on consistency about several runs of one setting."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import torch
from torch import Tensor

from graphformer.tasks import Classification, Regression
from graphformer.trust.outputs import collect_outputs
from graphformer.trust.proportions import proportion
from graphformer.trust.report import Cell, Section, Table
from graphformer.trust.run import Run, is_classification

_OWN = "this run"


def add_several_runs(section: Section, run: Run) -> None:
    """Add how far runs of one setting agree on the test samples, and the spread of their metric."""
    if not run.others:
        section.notes.append(
            "Runs of other seeds were not compared: pass --runs RUN RUN ..., or their folder."
        )
        return
    if not isinstance(run.task, Classification | Regression):
        section.notes.append(
            f"Runs of other seeds were left out: this run is a {type(run.task).__name__}, and they "
            "are compared by classes or numbers of samples."
        )
        return
    outputs, y = run.outputs("test")
    found = {_OWN: outputs}
    for name, task in run.others.items():
        assert isinstance(task, Classification | Regression)
        other = collect_outputs(task, run.data, "test", max_batches=run.max_batches)
        found[name] = other.output
    if is_classification(run.task):
        _add_classes(section, {name: output.argmax(1) for name, output in found.items()}, y)
    else:
        _add_numbers(section, found, y)


def _add_classes(section: Section, found: Mapping[str, Tensor], y: Tensor) -> None:
    """Add accuracies, and the shares of samples that runs give the same class."""
    scores = {name: float((each == y).double().mean()) for name, each in found.items()}
    classes = torch.stack(list(found.values()))
    same = (classes == classes[0]).all(0)
    together = proportion(int(same.sum()), len(same))
    pairs = [float((a == b).double().mean()) for a, b in combinations(classes, 2)]
    section.metrics |= {
        **_spread("accuracy", scores),
        "agreement of two runs, mean": sum(pairs) / len(pairs),
        "agreement of two runs, lowest": min(pairs),
        "same answer of all runs": together.value,
    }
    section.notes.append(
        f"{len(found)} runs of one setting, of other seeds: all give the same class to {together} "
        "of the test samples (95 % interval). Agreement: the share of samples that two runs give "
        "the same class, right or wrong."
    )
    _add_scores(section, "accuracy", scores, {n: each == classes[0] for n, each in found.items()})


def _add_numbers(section: Section, found: Mapping[str, Tensor], y: Tensor) -> None:
    """Add mean absolute errors, and the deviation of the predictions of a sample."""
    scores = {name: float((each - y).abs().mean()) for name, each in found.items()}
    predictions = torch.stack(list(found.values())).double()
    deviation = float(predictions.std(0).mean())
    section.metrics |= {
        **_spread("mean absolute error", scores),
        "deviation of predictions over runs": deviation,
    }
    section.notes.append(
        f"{len(found)} runs of one setting, of other seeds: the predictions of a test sample have "
        f"a sample deviation of {deviation:.4g}, mean over samples and targets."
    )
    _add_scores(section, "mean absolute error", scores, {})


def _spread(figure: str, scores: Mapping[str, float]) -> dict[str, float]:
    """Return mean, sample deviation, and ends of a figure over runs."""
    values = torch.tensor(list(scores.values()), dtype=torch.float64)
    return {
        f"{figure}, mean over runs": float(values.mean()),
        f"{figure}, sample deviation over runs": float(values.std()),
        f"{figure}, lowest of the runs": float(values.min()),
        f"{figure}, highest of the runs": float(values.max()),
    }


def _add_scores(
    section: Section, figure: str, scores: Mapping[str, float], same: Mapping[str, Tensor]
) -> None:
    rows: list[list[Cell]] = [
        [name, value, *([float(same[name].double().mean())] if same else [])]
        for name, value in scores.items()
    ]
    columns = ["run", figure, *(["agreement with this run"] if same else [])]
    section.tables.append(Table("Runs of one setting", columns, rows))
