"""The section on calibration: figures against torchmetrics, coverage of sets and intervals."""

from __future__ import annotations

import pytest
import torch
from helpers.trust import Identity, given_run, random_split
from torchmetrics.functional.classification import multiclass_calibration_error

from graphformer.patterns import SelfLoops
from graphformer.tasks import LanguageModeling
from graphformer.trust import Outputs, Run, Section, fit_temperature
from graphformer.trust.sections.calibration import add_conformal_sets, calibration_section


def test_figures_of_an_overconfident_model():
    val, test = random_split(1009, 5, 0, scale=3.0), random_split(2003, 5, 1, scale=3.0)
    metrics = calibration_section(given_run({"val": val, "test": test})).metrics
    temperature = fit_temperature(*val)
    assert metrics["temperature"] == temperature
    for name, divisor in (("ECE", 1.0), ("ECE after temperature scaling", temperature)):
        p = (test[0] / divisor).softmax(1)
        expected = multiclass_calibration_error(p, test[1], num_classes=5, n_bins=15, norm="l1")
        assert metrics[name] == pytest.approx(expected.item())
    assert temperature == pytest.approx(3.0, rel=0.1)  # the labels are drawn at 1/3 of the logits
    assert metrics["ECE after temperature scaling"] < 0.3 * metrics["ECE"]


def test_sets_cover_as_promised_on_average():
    coverages = []
    for seed in range(20):
        section = Section("calibration", "")
        val, test = random_split(401, 5, 2 * seed), random_split(1009, 5, 2 * seed + 1)
        add_conformal_sets(section, Outputs(*val), Outputs(*test), seed)
        coverages.append(section.metrics["conformal coverage"])
    # One split has a standard deviation of about sqrt(0.09 / 202): the mean of 20 has 0.005.
    assert sum(coverages) / len(coverages) == pytest.approx(0.9, abs=0.02)


def test_a_regression_gets_intervals():
    generator = torch.Generator().manual_seed(0)
    splits = {}
    for name, count in (("val", 499), ("test", 1999)):
        x = torch.randn(count, 1, generator=generator)
        splits[name] = x, x[:, 0] + torch.randn(count, generator=generator)
    section = calibration_section(given_run(splits))
    assert section.metrics["half-width of conformal intervals"] == pytest.approx(1.645, abs=0.2)
    assert section.metrics["conformal coverage"] == pytest.approx(0.9, abs=0.04)
    assert "a regression does not return" in section.notes[0]


def test_other_tasks_are_named():
    run = given_run({"test": random_split(5, 3, 0)})
    task = LanguageModeling(Identity(), SelfLoops())
    section = calibration_section(Run(task, run.data))
    assert section.notes[0].startswith("Not applicable: this run is a LanguageModeling")
    assert not section.metrics


def test_too_few_samples_and_a_temperature_at_its_end_are_said():
    y = torch.tensor([0, 1, 2, 0, 1, 2, 0])
    wrong = torch.eye(3)[(y + 1) % 3], y
    notes = calibration_section(given_run({"val": wrong, "test": wrong})).notes
    assert any("temperature is at the end of its range" in note for note in notes)
    assert any(note.startswith("4 samples are too few for a threshold") for note in notes)
    numbers = torch.ones(7, 2), torch.zeros(7, 2)
    notes = calibration_section(given_run({"val": numbers, "test": numbers})).notes
    assert [note.startswith("7 samples are too few") for note in notes] == [False, True]
