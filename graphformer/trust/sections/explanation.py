"""The section on explanation: the fidelity of attributions beside random ones."""

from __future__ import annotations

import torch
from torch import Tensor

from graphformer.batch_type import BatchLike
from graphformer.models import Model
from graphformer.patterns import lengths
from graphformer.tasks import Classification
from graphformer.trust.explanation import (
    fidelity,
    gradient_times_input,
    integrated_gradients,
    replaced_output,
    top_nodes,
)
from graphformer.trust.plots import bar_plot
from graphformer.trust.report import Cell, Figure, Section, Table
from graphformer.trust.run import Run, is_classification, not_applicable

NAME, TITLE = "explanation", "Explanation"
BATCHES = 3
SHARE = 0.2
"""Share of the nodes of a sample that an explanation consists of."""


def explanation_section(run: Run) -> Section:
    """Return fidelity plus and minus of attributions to nodes, for classes of whole samples."""
    task = run.task
    if not is_classification(task) or task.level != "graph" or not isinstance(task.network, Model):
        needs = "explains classes of whole samples by a Transformer's embedded nodes"
        return not_applicable(NAME, TITLE, run, needs)
    found: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for _, batch in zip(range(BATCHES), run.batches("test"), strict=False):
        for name, values in _batch_fidelity(task, task.network, batch, run.seed).items():
            found.setdefault(name, []).append(values)
    rows: list[list[Cell]] = []
    for name, pairs in found.items():
        plus, minus = (torch.cat(parts).mean() for parts in zip(*pairs, strict=True))
        rows.append([name, float(plus), float(minus)])
    section = Section(NAME, TITLE)
    section.notes.append(
        f"An explanation is the {SHARE:.0%} of a sample's nodes (tokens, patches, atoms) with the "
        "highest attribution to the probability of the predicted class. Fidelity plus: the fall of "
        "this probability without them, the larger the better; fidelity minus: its fall with them "
        "only, the smaller the better. A method is of use if it beats the random choice."
    )
    columns = ["method", "fidelity plus", "fidelity minus"]
    section.tables.append(Table("Fidelity on the first test batches", columns, rows))
    section.metrics = {f"fidelity plus, {row[0]}": float(row[1]) for row in rows}
    bars = {str(row[0]): float(row[1]) for row in rows}
    section.figures.append(Figure("Fidelity plus", bar_plot(bars, y_label="fall of probability")))
    return section


def _batch_fidelity(
    task: Classification, network: Model, batch: BatchLike, seed: int
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return fidelity plus and minus of each sample of a batch, [B] each, by method."""
    with torch.no_grad():
        x, predicted = network.embedding(batch), task(batch).argmax(1)

    def score(nodes: Tensor) -> Tensor:
        with replaced_output(network.embedding, nodes):
            logits: Tensor = task(batch)
        return logits.softmax(1).gather(1, predicted[:, None]).squeeze(1)

    generator = torch.Generator().manual_seed(seed)
    attributions = {
        "gradient times input": gradient_times_input(score, x),
        "integrated gradients": integrated_gradients(score, x),
        "random": torch.rand(len(x), generator=generator),
    }
    sizes = lengths(batch)
    return {
        name: fidelity(score, x, top_nodes(values, sizes, SHARE))
        for name, values in attributions.items()
    }
