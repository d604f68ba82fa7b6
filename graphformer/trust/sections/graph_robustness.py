"""The section on robustness of graphs: accuracy by changes of edges and of features."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F
from torch_geometric.data import Data

from graphformer.batch_type import BatchLike
from graphformer.data.graph.node_datasets import FullGraph
from graphformer.nn.graph import HybridBlock
from graphformer.patterns import Edges
from graphformer.tasks import Classification
from graphformer.trust.outputs import labelled
from graphformer.trust.plots import Line, line_plot
from graphformer.trust.report import Cell, Figure, Section, Table
from graphformer.trust.robustness import (
    EdgeWeights,
    attack_features,
    perturb_edges,
    perturb_features,
    prbcd,
)
from graphformer.trust.robustness.edges import with_edges
from graphformer.trust.run import Run

BUDGETS = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5)
DRAWS = 3


def graph_section(section: Section, run: Run, task: Classification, data: FullGraph) -> Section:
    """Add the accuracy of the test nodes by the share of changed edges, and by changed features."""
    graph = next(iter(data.batches("test")))
    if not _reads_edges(task):
        section.notes.append(
            f"Edges were not changed: the network reads none of the graph, over {task.adjacency}."
        )
    elif not graph.is_undirected():
        section.notes.append("Edges were not changed: this is done in undirected graphs only.")
    else:
        _add_edges(section, run, task, graph)
    add_features(section, run, task)
    return section


def _reads_edges(task: Classification) -> bool:
    """Whether attention is along the graph's edges, or messages are."""
    blocks = any(isinstance(module, HybridBlock) for module in task.network.modules())
    return isinstance(task.adjacency, Edges) or blocks


def _add_edges(section: Section, run: Run, task: Classification, graph: Data) -> None:
    count = int((graph.edge_index[0] <= graph.edge_index[1]).sum())
    lines: dict[str, Line] = {}
    for name, removes in (("random removal", True), ("random addition", False)):
        draws = [[_random(run, task, graph, round(b * count), removes, d) for b in BUDGETS]
                 for d in range(DRAWS)]  # fmt: skip
        lines[name] = _mean_line(draws)
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
    _add_lines(section, "Accuracy by budget", "share of edges", lines)


def add_features(section: Section, run: Run, task: Classification) -> None:
    """Add the accuracy of the test samples, or nodes, by the change of the nodes' features."""
    graphs = list(run.batches("test"))
    if not all(graph.x.is_floating_point() for graph in graphs):
        section.notes.append("Features were not changed: they are numbers of an embedding.")
        return
    graphs = [_with_features(graph, graph.x.to_dense()) for graph in graphs]
    length = float(torch.cat([graph.x.norm(dim=1) for graph in graphs]).mean())
    noisy = [
        [_accuracy(task, _noisy(graphs, run.seed + draw, b * length)) for b in BUDGETS]
        for draw in range(DRAWS)
    ]
    attacked = [_accuracy(task, _against(task, graphs, b * length)) for b in BUDGETS]
    section.notes.append(
        "Accuracy of the test split after the features of every node change by a share of the mean "
        f"norm of the nodes' features, {length:.4g}, at most: by noise (mean of {DRAWS} draws; the "
        "band is their range), or by 20 steps along the gradient of the cross-entropy. Changed "
        "features need not be ones that data can have, such as counts of words."
    )
    lines = {"random features": _mean_line(noisy), "attacked features": Line(BUDGETS, attacked)}
    _add_lines(section, "Accuracy by change of features", "share of the mean norm", lines)


def _mean_line(draws: list[list[float]]) -> Line:
    """Return the mean of several draws at each budget, with their range."""
    columns = list(zip(*draws, strict=True))
    mean = [sum(column) / len(column) for column in columns]
    return Line(BUDGETS, mean, list(map(min, columns)), list(map(max, columns)))


def _add_lines(section: Section, title: str, strength: str, lines: dict[str, Line]) -> None:
    rows: list[list[Cell]] = [
        [budget, *(line.y[i] for line in lines.values())] for i, budget in enumerate(BUDGETS)
    ]
    section.tables.append(Table(title, [strength, *lines], rows))
    plot = line_plot(lines, x_label=strength, y_label="accuracy")
    section.figures.append(Figure(title, plot))
    for name, line in lines.items():
        section.metrics[f"accuracy, {name} of {BUDGETS[-1]:.0%}"] = line.y[-1]


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
    return _accuracy(task, [with_edges(graph, edges)])


def _attacked(run: Run, model: EdgeWeights, graph: Data, budget: int) -> float:
    if not budget:
        return _accuracy(model.task, [graph])
    edges = prbcd(
        model,
        graph.x,
        graph.edge_index,
        graph.y,
        budget=budget,
        nodes=graph.test_mask,
        seed=run.seed,
    )
    return _accuracy(model.task, [with_edges(graph, edges)])


def _noisy(graphs: Sequence[BatchLike], seed: int, radius: float) -> list[BatchLike]:
    generator = torch.Generator().manual_seed(seed)
    return [
        _with_features(graph, perturb_features(graph.x, radius=radius, generator=generator))
        for graph in graphs
    ]


def _against(task: Classification, graphs: Sequence[BatchLike], radius: float) -> list[BatchLike]:
    """Return graphs with features that are attacked within a radius."""
    return [
        _with_features(
            graph, attack_features(partial(_test_loss, task, graph), graph.x, radius=radius)
        )
        for graph in graphs
    ]


def _with_features(graph: BatchLike, x: Tensor) -> BatchLike:
    """Return a shallow copy of a graph with other features."""
    other = copy.copy(graph)
    other.x = x
    return other


def _test_loss(task: Classification, graph: BatchLike, x: Tensor) -> Tensor:
    logits, y = labelled(*task.labelled_outputs(_with_features(graph, x), "test"))
    return F.cross_entropy(logits, y, reduction="sum")


@torch.no_grad()
def _accuracy(task: Classification, graphs: Sequence[BatchLike]) -> float:
    """Return the share of right classes of the test samples, or nodes, of graphs."""
    right = []
    for graph in graphs:
        logits, y = labelled(*task.labelled_outputs(graph, "test"))
        right.append(logits.argmax(1) == y)
    return float(torch.cat(right).double().mean())
