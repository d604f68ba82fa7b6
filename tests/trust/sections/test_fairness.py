"""The section on fairness finds a planted bias."""

from __future__ import annotations

import pytest
import torch
from helpers.trust import given_run

from graphformer.trust.sections import fairness_section


def biased_run():
    """Class 1 is always right, class 0 in every fifth sample."""
    y = torch.arange(100) % 2
    predicted = torch.where((y == 0) & (torch.arange(100) % 10 != 0), 1, y)
    logits = torch.nn.functional.one_hot(predicted, 2).float()
    return given_run({"test": (logits, y)})


def test_the_gap_between_groups():
    run = biased_run()
    run.group = "y"
    section = fairness_section(run)
    assert section.metrics["gap of accuracy by y"] == pytest.approx(0.8)
    gaps = {row[0]: row for row in section.tables[2].rows}
    assert gaps["accuracy"][4] < 0.01
    assert gaps["rate of predicting 1"][1] == pytest.approx(0.2)  # 0.8 and 1
    assert "recall of class 0" not in gaps  # one group only has samples of class 0


def test_without_groups_there_is_the_recall_of_each_class():
    section = fairness_section(biased_run())
    assert [row[:3] for row in section.tables[0].rows] == [[0, 50, 0.2], [1, 50, 1.0]]
    assert "--group NAME" in section.notes[0]


def test_an_unknown_group_is_refused():
    run = biased_run()
    run.group = "region"
    with pytest.raises(ValueError, match="group: got 'region', expected a field of the batches"):
        fairness_section(run)


def test_a_regression_has_no_classes():
    run = given_run({"test": (torch.ones(3, 1), torch.ones(3))})
    assert fairness_section(run).notes[0].startswith("Not applicable: this run is a Regression")
