"""Link predictions in a report: probabilities of edges, and losses of seen and unseen edges."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.classification import binary_calibration_error

from graphformer.tasks import LinkPrediction
from graphformer.trust.calibration import binned, fit_temperature
from graphformer.trust.outputs import Outputs
from graphformer.trust.plots import Line, line_plot
from graphformer.trust.report import Cell, Figure, Section, Table
from graphformer.trust.run import Run


@torch.no_grad()
def pair_outputs(run: Run, task: LinkPrediction, split: str) -> Outputs:
    """Return the logits of no edge, 0, and of an edge, and the labels, of "val" or "test" pairs."""
    task.eval()
    scores, labels = [], []
    for batch in run.batches(split):
        scores.append(task.scores(batch, batch[f"{split}_edge_label_index"]))
        labels.append(batch[f"{split}_edge_label"].long())
    edge = torch.cat(scores)
    return Outputs(torch.stack([torch.zeros_like(edge), edge], dim=1), torch.cat(labels))


@torch.no_grad()
def edge_losses(run: Run, task: LinkPrediction) -> tuple[Tensor, Tensor]:
    """Return the cross-entropy of each edge of the training split, and of the test split."""
    task.eval()
    train = [task.scores(batch, batch.train_edge_label_index) for batch in run.batches("test")]
    output, y = pair_outputs(run, task, "test")
    return -F.logsigmoid(torch.cat(train)), -F.logsigmoid(output[y == 1, 1])


def add_edge_probabilities(section: Section, val: Outputs, test: Outputs, *, bins: int) -> None:
    """Add the calibration of the probability of an edge, before and after a temperature.

    Args:
        section: to add to.
        val: of the pairs to which the temperature is fitted, as `pair_outputs` returns them.
        test: of the pairs that the figures are of.
        bins: number of bins of the probability.
    """
    temperature = fit_temperature(*val)
    lines, columns = {}, {}
    for name, divisor in (("before", 1.0), ("after", temperature)):
        logits = (test.output[:, 1] - test.output[:, 0]).double() / divisor
        columns[name] = _scores(logits, test.y, bins)
        means = binned(logits.sigmoid(), test.y.double(), bins=bins)
        lines[name] = Line(means.confidence.tolist(), means.accuracy.tolist())
    before, after = columns["before"], columns["after"]
    share = float(test.y.double().mean())
    section.notes.append(
        f"ECE: expected calibration error of the probability of an edge, {bins} bins. Brier score: "
        f"mean squared error of this probability, from 0 to 1. The temperature {temperature:.4g} "
        f"is fitted to the {len(val.y)} pairs of the validation split, and is not stored: it "
        f"changes no ranking. All figures are of the {len(test.y)} pairs of the test split, of "
        f"which {share:.1%} are edges; among pairs with another share of edges, such as all pairs "
        "of nodes, the probabilities are wrong."
    )
    section.metrics |= {
        "accuracy": before["accuracy"],
        "ECE": before["ECE"],
        "ECE after temperature scaling": after["ECE"],
        "Brier score": before["Brier score"],
        "Brier score after temperature scaling": after["Brier score"],
    }
    rows: list[list[Cell]] = [[name, before[name], after[name]] for name in before]
    titles = ["figure", "temperature 1", f"temperature {temperature:.4g}"]
    section.tables.append(Table("Before and after temperature scaling", titles, rows))
    plot = line_plot(lines, x_label="probability", y_label="share of edges", diagonal=True)
    section.figures.append(Figure("Reliability diagram of edges", plot))


def _scores(logits: Tensor, y: Tensor, bins: int) -> dict[str, float]:
    probability = logits.sigmoid()
    error = binary_calibration_error(probability, y, n_bins=bins, norm="l1")
    return {
        "accuracy": float(((logits > 0) == y.bool()).double().mean()),
        "ECE": float(error),
        "Brier score": float((probability - y).square().mean()),
        "cross-entropy": float(F.binary_cross_entropy_with_logits(logits, y.double())),
    }
