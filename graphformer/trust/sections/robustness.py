"""The section on robustness: accuracy by the strength of a perturbation, over two adjacencies."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from graphformer.data import LabelledText, MissingDataError
from graphformer.data.graph.datasets import GraphBatches
from graphformer.data.graph.node_datasets import FullGraph
from graphformer.data.vision.base import PatchImages
from graphformer.patterns import Complete, Grid, Pattern, Window
from graphformer.tasks import Classification
from graphformer.trust.outputs import (
    drawn_samples,
    has_one_size,
    image_logits,
    labelled,
    split_batches,
)
from graphformer.trust.plots import Line, line_plot
from graphformer.trust.report import Cell, Figure, Section, Table
from graphformer.trust.robustness import (
    CORRUPTIONS,
    SEVERITIES,
    corrupt,
    pgd,
    read_synonyms,
    replace_synonyms,
    swap_words,
    typos,
)
from graphformer.trust.run import Run, is_classification, not_applicable
from graphformer.trust.sections.graph_robustness import add_features, graph_section

NAME, TITLE = "robustness", "Robustness"
SAMPLES = 300
"""Images or texts that are perturbed at most, drawn from the test split."""
RATES = (0.0, 0.05, 0.1, 0.2, 0.4)
RADII = (0.0, 1 / 255, 2 / 255, 4 / 255, 8 / 255)

Curves = dict[str, dict[str, list[float]]]
"""Accuracy at each strength, by perturbation and adjacency."""
Change = Callable[[str, float, random.Random], str]


def robustness_section(run: Run) -> Section:
    """Return accuracy under perturbations of edges, pixels or words of a classification."""
    if not is_classification(run.task):
        return not_applicable(NAME, TITLE, run, "measures the accuracy of a classification")
    if isinstance(run.data, PatchImages) and has_one_size(run.data):
        return _image_section(run, run.task, run.data)
    if isinstance(run.data, LabelledText):
        return _text_section(run, run.task, run.data)
    if isinstance(run.data, FullGraph) and run.task.level == "node":
        return graph_section(Section(NAME, TITLE), run, run.task, run.data)
    section = Section(NAME, TITLE)
    if isinstance(run.data, GraphBatches) and run.task.level != "edge":
        section.notes.append("Edges were not changed: this is done for nodes of one graph.")
        add_features(section, run, run.task)
        return section
    section.notes.append(
        "Not applicable: perturbations are defined for images of one size (PatchImages), for texts "
        "(LabelledText) and for classes of graphs or nodes; this run has "
        f"{type(run.data).__name__}."
    )
    return section


@contextmanager
def using(task: Classification, pattern: Pattern) -> Iterator[None]:
    """Replace the adjacency of a task within a `with` block."""
    before, task.adjacency = task.adjacency, pattern
    try:
        yield
    finally:
        task.adjacency = before


def _patterns(own: Pattern, sparse: Pattern) -> dict[str, Pattern]:
    """Return the run's own adjacency and, for comparison, the complete or a sparse one."""
    other = sparse if isinstance(own, Complete) else Complete()
    return {f"{own} (the run's)": own, f"{other} (same weights)": other}


def _image_section(run: Run, task: Classification, data: PatchImages) -> Section:
    whole, classes = data.splits["test"]
    chosen = drawn_samples(len(classes), SAMPLES, seed=run.seed)
    assert isinstance(whole, Tensor)
    images, y = whole[chosen], classes[chosen]
    pixels = images.float() / data.max_value
    curves: Curves = {name: {} for name in (*CORRUPTIONS, "PGD")}
    for title, pattern in _patterns(task.adjacency, Grid(1)).items():
        with using(task, pattern):
            logits = image_logits(task, data)
            clean = _accuracy(logits(pixels), y)
            for name in CORRUPTIONS:
                rows = [corrupt(pixels, name, s, generator=_generator(run)) for s in SEVERITIES]
                curves[name][title] = [clean, *(_accuracy(logits(row), y) for row in rows)]

            def loss(x: Tensor, logits: Callable[[Tensor], Tensor] = logits) -> Tensor:
                return F.cross_entropy(logits(x), y.long(), reduction="sum")

            attacked = [pgd(loss, pixels, radius=r, generator=_generator(run)) for r in RADII[1:]]
            curves["PGD"][title] = [clean, *(_accuracy(logits(x), y) for x in attacked)]
    section = Section(NAME, TITLE)
    section.notes.append(
        f"{len(y)} test images, drawn at random, under corruptions of five severities, and under "
        "an attack "
        "by the gradient (PGD, ten steps) that changes no pixel by more than its radius. The other "
        "adjacency has the same weights, which were not trained for it."
    )
    for name, lines in curves.items():
        strengths = [255 * r for r in RADII] if name == "PGD" else [0.0, *map(float, SEVERITIES)]
        _add_curve(section, name, "radius / 255" if name == "PGD" else "severity", strengths, lines)
    return section


def _text_section(run: Run, task: Classification, data: LabelledText) -> Section:
    section = Section(NAME, TITLE)
    changes: dict[str, Change] = {"typos": typos, "swapped words": swap_words}
    try:
        changes["synonyms"] = partial(replace_synonyms, synonyms=read_synonyms())
    except MissingDataError as missing:
        section.notes.append(f"Synonyms of WordNet were left out: {missing}.")
    curves: Curves = {name: {} for name in changes}
    for title, pattern in _patterns(task.adjacency, Window(8)).items():
        with using(task, pattern):
            for name, change in changes.items():
                curves[name][title] = [
                    _text_accuracy(task, data, change, rate, run.seed) for rate in RATES
                ]
    section.notes.append(
        f"{min(SAMPLES, len(data.splits['test']))} test texts, drawn at random, in which each word "
        "has a typing error with the given probability, changes places with its neighbour, or is "
        "replaced by a synonym of any of its senses, if it has one. The other adjacency has the "
        "same weights, which were not trained for it."
    )
    for name, lines in curves.items():
        _add_curve(section, name, "share of words", list(RATES), lines)
    return section


def _text_accuracy(
    task: Classification,
    data: LabelledText,
    change: Change,
    rate: float,
    seed: int,
) -> float:
    generator = random.Random(seed)
    test = data.splits["test"]
    samples = [test[i] for i in drawn_samples(len(test), SAMPLES, seed=seed)]
    changed = [(change(text, rate, generator), label) for text, label in samples]
    other = copy.copy(data)
    other.splits = {**data.splits, "test": changed}
    right = count = 0
    with torch.no_grad():
        for batch in split_batches(other, "test"):
            logits, y = labelled(*task.labelled_outputs(batch, "test"))
            right, count = right + int((logits.argmax(1) == y).sum()), count + len(y)
    return right / count


@torch.no_grad()
def _accuracy(logits: Tensor, y: Tensor) -> float:
    return float((logits.argmax(1) == y).double().mean())


def _generator(run: Run) -> torch.Generator:
    return torch.Generator().manual_seed(run.seed)


def _add_curve(
    section: Section, name: str, strength: str, values: list[float], lines: dict[str, list[float]]
) -> None:
    rows: list[list[Cell]] = [
        [value, *(line[i] for line in lines.values())] for i, value in enumerate(values)
    ]
    section.tables.append(Table(f"Accuracy under {name}", [strength, *lines], rows))
    plot = line_plot(
        {title: Line(values, line) for title, line in lines.items()},
        x_label=strength,
        y_label="accuracy",
    )
    section.figures.append(Figure(f"Accuracy under {name}", plot))
    own = next(iter(lines.values()))
    section.metrics[f"accuracy under the strongest {name}"] = own[-1]
