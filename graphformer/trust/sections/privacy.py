"""The section on privacy: membership inference, and memorised text of language models."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from graphformer.data.text.language_modeling import TextBlocks
from graphformer.models import Model
from graphformer.tasks import Classification, LinkPrediction, Regression
from graphformer.tasks.text.language import LanguageModeling
from graphformer.trust.outputs import Outputs
from graphformer.trust.privacy import (
    Membership,
    label_robustness,
    membership_inference,
    memorized_tokens,
)
from graphformer.trust.report import Cell, Section, Table
from graphformer.trust.run import Run, is_classification, not_applicable
from graphformer.trust.sections.links import edge_losses

NAME, TITLE = "privacy", "Privacy"
BATCHES = 10
"""Batches of each split that the label-only attack reads."""
PASSAGES = 20
PREFIX = REST = 32
"""Tokens of a passage that a model reads, and that it should continue with."""


def privacy_section(run: Run) -> Section:
    """Return how well losses tell training samples from test samples, or memorised text."""
    if isinstance(run.task, LanguageModeling) and isinstance(run.data, TextBlocks):
        return _memorization_section(run, run.task.network, run.data)
    if isinstance(run.task, LinkPrediction):
        return _link_section(run, run.task)
    if not is_classification(run.task) and not isinstance(run.task, Regression):
        return not_applicable(NAME, TITLE, run, "needs one loss for each sample, or a text model")
    train, test = losses(run.outputs("train")), losses(run.outputs("test"))
    found = membership_inference(train, test)
    section = _with_metrics(found, "samples")
    section.notes.append(
        "Membership inference: samples of low loss are taken for training samples. An area under "
        "the ROC curve of 0.5 is chance; the attack is a simple one, so that a value near 0.5 is "
        "no proof of privacy."
    )
    if is_classification(run.task) and run.task.level != "edge":
        _add_label_only(section, run, run.task)
    else:
        section.notes.append(
            "The attack by labels only was left out: it reads classes of samples or of nodes."
        )
    _add_losses(section, "samples", train, test)
    return section


def _with_metrics(found: Membership, what: str) -> Section:
    """Return a section with the success of membership inference, of "samples" or "edges"."""
    section = Section(NAME, TITLE)
    section.metrics = {
        "AUC of membership inference": found.auc,
        f"training {what} found at 1 % false alarms": found.hits_at_low_rate,
    }
    return section


def _link_section(run: Run, task: LinkPrediction) -> Section:
    train, test = edge_losses(run, task)
    found = membership_inference(train, test)
    section = _with_metrics(found, "edges")
    section.notes.append(
        "Membership inference of edges: pairs of high score are taken for training edges, beside "
        "the edges of the test split, which training did not see. The network reads the training "
        "edges when it scores pairs, so the figure is of what it reads and of what it learned. An "
        "area under the ROC curve of 0.5 is chance; the attack is a simple one, so that a value "
        "near 0.5 is no proof of privacy."
    )
    _add_losses(section, "edges", train, test)
    return section


def _add_losses(section: Section, what: str, train: Tensor, test: Tensor) -> None:
    rows: list[list[Cell]] = [
        [name, len(values), float(values.mean()), float(values.median())]
        for name, values in (("train", train), ("test", test))
    ]
    section.tables.append(Table("Losses", ["split", what, "mean", "median"], rows))


def _add_label_only(section: Section, run: Run, task: Classification) -> None:
    """Add an attack that reads predicted classes of noisy inputs, from some batches of a split."""
    shares = [
        label_robustness(task, islice(run.batches(split), BATCHES), split, seed=run.seed)
        for split in ("train", "test")
    ]
    found = membership_inference(*(1 - share for share in shares))
    section.metrics["AUC of membership inference by labels only"] = found.auc
    section.notes.append(
        "Label-only attack: samples whose predicted class stays right under noise on their nodes "
        f"are taken for training samples; it reads no probability. The right classes are kept in "
        f"{float(shares[0].mean()):.1%} of the noisy copies of {len(shares[0])} training samples, "
        f"and in {float(shares[1].mean()):.1%} of those of {len(shares[1])} test samples."
    )


def losses(outputs: Outputs) -> Tensor:
    """Return the cross-entropy of each sample, or the mean absolute error of its targets, [B]."""
    if outputs.y.is_floating_point():
        return (outputs.output - outputs.y).abs().mean(1)
    return F.cross_entropy(outputs.output, outputs.y, reduction="none")


def _memorization_section(run: Run, network: Any, data: TextBlocks) -> Section:
    section = Section(NAME, TITLE)
    if not isinstance(network, Model):
        section.notes.append(f"Not applicable: {type(network).__name__} generates no text.")
        return section
    rows: list[list[Cell]] = []
    for split in ("train", "test"):
        tokens = np.asarray(data.stream(split).tokens)
        if len(tokens) < PREFIX + REST:
            section.notes.append(f"The {split} split is shorter than {PREFIX + REST} tokens.")
            continue
        generator = np.random.default_rng(run.seed)
        starts = generator.integers(len(tokens) - PREFIX - REST + 1, size=PASSAGES)
        passages = [tokens[s : s + PREFIX + REST].tolist() for s in starts]
        with torch.no_grad():
            counts = memorized_tokens(network, passages, prefix_length=PREFIX)
        verbatim = float((counts == REST).double().mean())
        rows.append([split, PASSAGES, float(counts.double().mean()), verbatim])
        section.metrics[f"passages of {split} that are continued verbatim"] = verbatim
    section.notes.append(
        f"Passages of {PREFIX + REST} tokens: the model reads the first {PREFIX} and continues "
        "greedily. More right tokens for training than for test passages are memorised text."
    )
    columns = ["split", "passages", "mean of right tokens", "verbatim"]
    section.tables.append(Table("Continued passages", columns, rows))
    return section
