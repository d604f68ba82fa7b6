"""The section on calibration and abstention."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error

from graphformer.tasks import LinkPrediction, Regression
from graphformer.trust.abstention import (
    class_scores,
    conformal_threshold,
    prediction_sets,
    risk_coverage,
)
from graphformer.trust.calibration import (
    LOG_TEMPERATURE,
    brier_score,
    fit_temperature,
    reliability,
)
from graphformer.trust.outputs import Outputs
from graphformer.trust.plots import Line, line_plot
from graphformer.trust.proportions import proportion
from graphformer.trust.report import Cell, Figure, Section, Table
from graphformer.trust.run import Run, is_classification, not_applicable
from graphformer.trust.sections.links import add_edge_probabilities, pair_outputs

NAME, TITLE = "calibration", "Calibration and abstention"
ALPHA = 0.1
BINS = 15


def calibration_section(run: Run) -> Section:
    """Return calibration error, temperature, conformal sets and risk by coverage of a run.

    For a regression, conformal intervals; for links, figures of the probability of an edge.
    The temperature is `section.metrics["temperature"]`.
    """
    if isinstance(run.task, Regression):
        return _interval_section(run.outputs("val"), run.outputs("test"))
    if isinstance(run.task, LinkPrediction):
        return _link_section(run, run.task)
    if not is_classification(run.task):
        return not_applicable(NAME, TITLE, run, "needs one class or number for each sample")
    val, test = run.outputs("val"), run.outputs("test")
    section = Section(NAME, TITLE)
    _add_temperature(section, val, test)
    add_conformal_sets(section, val, test, run.seed)
    _add_risk(section, test)
    return section


def _link_section(run: Run, task: LinkPrediction) -> Section:
    val, test = (pair_outputs(run, task, split) for split in ("val", "test"))
    section = Section(NAME, TITLE)
    add_edge_probabilities(section, val, test, bins=BINS)
    add_conformal_sets(section, val, test, run.seed)
    _add_risk(section, test)
    return section


def scores(logits: Tensor, y: Tensor) -> dict[str, float]:
    """Return accuracy, expected calibration error, Brier score and cross-entropy of logits."""
    probabilities = logits.softmax(1)
    error = multiclass_calibration_error(
        probabilities, y, num_classes=logits.shape[1], n_bins=BINS, norm="l1"
    )
    return {
        "accuracy": float((logits.argmax(1) == y).double().mean()),
        "ECE": float(error),
        "Brier score": float(brier_score(probabilities, y)),
        "cross-entropy": float(torch.nn.functional.cross_entropy(logits, y)),
    }


def _add_temperature(section: Section, val: Outputs, test: Outputs) -> None:
    temperature = fit_temperature(*val)
    before, after = scores(*test), scores(test.output / temperature, test.y)
    section.notes.append(
        f"ECE: expected calibration error of the largest probability, {BINS} bins. Brier score: "
        "mean of the sum over classes of squared errors of the probability, from 0 to 2. The "
        f"temperature {temperature:.4g} is fitted to the {len(val.y)} samples of the validation "
        f"split; all figures are of the {len(test.y)} samples of the test split."
    )
    if math.log(temperature) > 0.99 * LOG_TEMPERATURE:
        section.notes.append(
            "The temperature is at the end of its range: equal probabilities fit the "
            "classes of the validation split better than the logits do."
        )
    section.metrics |= {
        "accuracy": before["accuracy"],
        "ECE": before["ECE"],
        "ECE after temperature scaling": after["ECE"],
        "Brier score": before["Brier score"],
        "Brier score after temperature scaling": after["Brier score"],
        "temperature": temperature,
    }
    rows: list[list[Cell]] = [[name, before[name], after[name]] for name in before]
    columns = ["figure", "temperature 1", f"temperature {temperature:.4g}"]
    section.tables.append(Table("Before and after temperature scaling", columns, rows))
    lines = {}
    for name, logits in (("before", test.output), ("after", test.output / temperature)):
        bins = reliability(logits.softmax(1), test.y, bins=BINS)
        lines[name] = Line(bins.confidence.tolist(), bins.accuracy.tolist())
    plot = line_plot(lines, x_label="confidence", y_label="accuracy", diagonal=True)
    section.figures.append(Figure("Reliability diagram", plot))


def add_conformal_sets(section: Section, val: Outputs, test: Outputs, seed: int) -> None:
    """Add the coverage and the sizes of conformal sets.

    The temperature and the threshold are fitted on different halves of the validation split.
    """
    order = torch.randperm(len(val.y), generator=torch.Generator().manual_seed(seed))
    fit, calibrate = order[: len(order) // 2], order[len(order) // 2 :]
    temperature = fit_temperature(val.output[fit], val.y[fit]) if len(fit) else 1.0
    probabilities = (val.output[calibrate] / temperature).softmax(1)
    threshold = conformal_threshold(class_scores(probabilities, val.y[calibrate]), ALPHA)
    sets = prediction_sets((test.output / temperature).softmax(1), threshold)
    covered = sets.gather(1, test.y[:, None]).squeeze(1)
    coverage, sizes = proportion(int(covered.sum()), len(covered)), sets.sum(1)
    section.notes.append(
        f"Conformal sets contain the right class of a new sample with a probability of at least "
        f"{1 - ALPHA:g}, if it is drawn as the validation samples are; one half of these fits the "
        f"temperature, the other {len(calibrate)} the threshold. They contain it for {coverage} "
        "of the test samples (95 % interval)."
    )
    _note_few(section, threshold, len(calibrate))
    section.metrics |= {
        "conformal coverage": coverage.value,
        "mean size of conformal sets": float(sizes.double().mean()),
    }
    counts = sizes.bincount(minlength=sets.shape[1] + 1).tolist()
    rows: list[list[Cell]] = [
        [size, count, float(covered[sizes == size].double().mean())]
        for size, count in enumerate(counts)
        if count
    ]
    section.tables.append(
        Table("Conformal sets by size", ["classes in the set", "samples", "covered"], rows)
    )


def _note_few(section: Section, threshold: float, count: int) -> None:
    """Say that sets or intervals contain everything, if too few samples fitted them."""
    if math.isinf(threshold):
        section.notes.append(
            f"{count} samples are too few for a threshold: every set or interval contains all "
            "classes or numbers. Validate on more samples."
        )


def _add_risk(section: Section, test: Outputs) -> None:
    coverage, risk = risk_coverage(test.output.softmax(1), test.y)
    section.notes.append(
        "Risk and coverage: the error rate if the model answers only its most confident samples."
    )
    section.metrics["area under the risk-coverage curve"] = float(risk.mean())
    shares = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
    rows: list[list[Cell]] = [
        [share, float(risk[max(round(share * len(risk)), 1) - 1])] for share in shares
    ]
    section.tables.append(Table("Risk by coverage", ["share answered", "error rate"], rows))
    step = max(len(risk) // 200, 1)
    line = Line(coverage[::step].tolist(), risk[::step].tolist())
    plot = line_plot({"risk": line}, x_label="share answered", y_label="error rate")
    section.figures.append(Figure("Risk-coverage curve", plot))


def _interval_section(val: Outputs, test: Outputs) -> Section:
    """Return intervals prediction ± threshold of each target of a regression."""
    section = Section(NAME, TITLE)
    section.notes.append(
        "Calibration error, temperature and risk-coverage curve are figures of class "
        "probabilities, which a regression does not return. Conformal intervals, prediction ± "
        f"half-width, contain the target of a new sample with a probability of at least "
        f"{1 - ALPHA:g}, if it is drawn as the validation samples are; the half-width is fitted "
        f"to the {len(val.y)} validation samples."
    )
    errors = (test.output - test.y).abs()
    rows: list[list[Cell]] = []
    for target in range(errors.shape[1]):
        calibration = (val.output[:, target] - val.y[:, target]).abs()
        half_width = conformal_threshold(calibration, ALPHA)
        if not target:
            _note_few(section, half_width, len(calibration))
        hits = int((errors[:, target] <= half_width).sum())
        coverage = proportion(hits, len(errors))
        rows.append([target, half_width, coverage.value, coverage.low, coverage.high])
        suffix = f" of target {target}" if errors.shape[1] > 1 else ""
        section.metrics[f"conformal coverage{suffix}"] = coverage.value
        section.metrics[f"half-width of conformal intervals{suffix}"] = half_width
    section.metrics["mean absolute error"] = float(errors.mean())
    columns = ["target", "half-width", "covered", "95 % interval from", "to"]
    section.tables.append(Table("Conformal intervals on the test split", columns, rows))
    return section
