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
from torch_geometric.data import Data

from graphformer.data import LabelledText, MissingDataError
from graphformer.data.graph.node_datasets import FullGraph
from graphformer.data.vision.base import PatchImages
from graphformer.nn.graph import HybridBlock
from graphformer.patterns import Complete, Edges, Grid, Pattern, Window
from graphformer.tasks import Classification
from graphformer.trust.outputs import has_one_size, image_logits, labelled, split_batches
from graphformer.trust.plots import Line, line_plot
from graphformer.trust.report import Cell, Figure, Section, Table
from graphformer.trust.robustness import (
    CORRUPTIONS,
    SEVERITIES,
    EdgeWeights,
    corrupt,
    perturb_edges,
    pgd,
    prbcd,
    read_synonyms,
    replace_synonyms,
    swap_words,
    typos,
)
from graphformer.trust.robustness.edges import with_edges
from graphformer.trust.run import Run, is_classification, not_applicable

NAME, TITLE = "robustness", "Robustness"
SAMPLES = 300
"""Images or texts that are perturbed: the first of the test split."""
BUDGETS = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5)
RATES = (0.0, 0.05, 0.1, 0.2, 0.4)
RADII = (0.0, 1 / 255, 2 / 255, 4 / 255, 8 / 255)
DRAWS = 3

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
    if isinstance(run.data, FullGraph) and _reads_edges(run.task):
        return _graph_section(run, run.task, run.data)
    section = Section(NAME, TITLE)
    section.notes.append(
        "Not applicable: perturbations are defined for images of one size (PatchImages), for texts "
        "(LabelledText) and for one graph whose edges the network reads; this run has "
        f"{type(run.data).__name__} and {run.task.adjacency}."
    )
    return section


def _reads_edges(task: Classification) -> bool:
    """Whether attention is along the graph's edges, or messages are."""
    blocks = any(isinstance(module, HybridBlock) for module in task.network.modules())
    return isinstance(task.adjacency, Edges) or blocks


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
    images, y = (part[:SAMPLES] for part in data.splits["test"])
    assert isinstance(images, Tensor)
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
        f"The first {len(y)} test images under corruptions of five severities, and under an attack "
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
        f"The first {min(SAMPLES, len(data.splits['test']))} test texts, in which each word has a "
        "typing error with the given probability, changes places with its neighbour, or is "
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
    changed = [
        (change(text, rate, generator), label) for text, label in data.splits["test"][:SAMPLES]
    ]
    other = copy.copy(data)
    other.splits = {**data.splits, "test": changed}
    right = count = 0
    with torch.no_grad():
        for batch in split_batches(other, "test"):
            logits, y = labelled(*task.labelled_outputs(batch, "test"))
            right, count = right + int((logits.argmax(1) == y).sum()), count + len(y)
    return right / count


def _graph_section(run: Run, task: Classification, data: FullGraph) -> Section:
    graph = next(iter(data.batches("test")))
    undirected = graph.is_undirected()
    section = Section(NAME, TITLE)
    if not undirected:
        section.notes.append("Not applicable: edges are perturbed in undirected graphs only.")
        return section
    count = int((graph.edge_index[0] <= graph.edge_index[1]).sum())
    lines: dict[str, Line] = {}
    for name, removes in (("random removal", True), ("random addition", False)):
        draws = [[_random(run, task, graph, round(b * count), removes, d) for b in BUDGETS]
                 for d in range(DRAWS)]  # fmt: skip
        columns = list(zip(*draws, strict=True))
        mean = [sum(column) / DRAWS for column in columns]
        lines[name] = Line(BUDGETS, mean, list(map(min, columns)), list(map(max, columns)))
    try:
        model = EdgeWeights(task, graph)
        attacked = [_attacked(run, model, graph, round(b * count)) for b in BUDGETS]
        lines["PRBCD"] = Line(BUDGETS, attacked)
    except ValueError as refusal:
        section.notes.append(f"PRBCD was left out: {refusal}.")
    section.notes.append(
        f"Accuracy of the test nodes after a share of the {count} undirected edges is removed or "
        f"added at random (mean of {DRAWS} draws; the band is their range), or flipped by the "
        "attack PRBCD of PyG, whose gradients reach the attention through a bias, the logarithm of "
        "the weight of an edge. The trained weights do not change (evasion)."
    )
    rows: list[list[Cell]] = [
        [budget, *(line.y[i] for line in lines.values())] for i, budget in enumerate(BUDGETS)
    ]
    section.tables.append(Table("Accuracy by budget", ["share of edges", *lines], rows))
    plot = line_plot(lines, x_label="share of edges", y_label="accuracy")
    section.figures.append(Figure("Accuracy by budget", plot))
    for name, line in lines.items():
        section.metrics[f"accuracy, {name} of {BUDGETS[-1]:.0%}"] = line.y[-1]
    return section


def _random(
    run: Run, task: Classification, graph: Data, number: int, removes: bool, draw: int
) -> float:
    generator = torch.Generator().manual_seed(run.seed + draw)
    edges = perturb_edges(
        graph.edge_index,
        int(graph.num_nodes or 0),
        removed=number if removes else 0,
        added=0 if removes else number,
        generator=generator,
    )
    return _node_accuracy(task, with_edges(graph, edges))


def _attacked(run: Run, model: EdgeWeights, graph: Data, budget: int) -> float:
    if not budget:
        return _node_accuracy(model.task, graph)
    edges = prbcd(
        model,
        graph.x,
        graph.edge_index,
        graph.y,
        budget=budget,
        nodes=graph.test_mask,
        seed=run.seed,
    )
    return _node_accuracy(model.task, with_edges(graph, edges))


@torch.no_grad()
def _node_accuracy(task: Classification, graph: Data) -> float:
    logits, y = labelled(*task.labelled_outputs(graph, "test"))
    return float((logits.argmax(1) == y).double().mean())


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
