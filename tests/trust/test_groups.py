"""Gaps between groups against torchmetrics, and the groups of a column of a table."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_groups_stat_rates

from graphformer.data import LabelledText
from graphformer.trust.groups import (
    bootstrap_gap,
    group_of_samples,
    mean_gap,
    permutation_p_value,
)


def test_the_gap_of_predicted_rates_is_that_of_torchmetrics():
    generator = torch.Generator().manual_seed(0)
    predicted, y, groups = (torch.randint(high, (101,), generator=generator) for high in (2, 2, 3))
    rates = binary_groups_stat_rates(predicted, y, groups, num_groups=3)
    positive = [float(rate[0] + rate[1]) for rate in rates.values()]  # true and false positives
    found = mean_gap(predicted.double().numpy(), groups.numpy())
    assert found == pytest.approx(max(positive) - min(positive))


def test_gaps_are_those_of_fairlearn():
    metrics = pytest.importorskip("fairlearn.metrics")
    generator = np.random.default_rng(0)
    y, groups = generator.integers(2, size=307), generator.integers(4, size=307)
    predicted = np.where(generator.random(307) < 0.2 * groups, 1 - y, y)
    right = (predicted == y).astype(float)
    frame = metrics.MetricFrame(
        metrics={"accuracy": lambda a, b: np.mean(a == b), "recall": metrics.true_positive_rate},
        y_true=y, y_pred=predicted, sensitive_features=groups,
    )  # fmt: skip
    gaps = frame.difference(method="between_groups")
    assert mean_gap(right, groups) == pytest.approx(gaps["accuracy"])
    positive = y == 1
    assert mean_gap(right[positive], groups[positive]) == pytest.approx(gaps["recall"])
    parity = metrics.demographic_parity_difference(y, predicted, sensitive_features=groups)
    assert mean_gap(predicted.astype(float), groups) == pytest.approx(parity)
    odds = metrics.equalized_odds_difference(y, predicted, sensitive_features=groups)
    by_class = [mean_gap(right[y == c], groups[y == c]) for c in (0, 1)]
    assert max(by_class) == pytest.approx(odds)


def test_a_real_gap_is_significant_and_a_random_one_is_not():
    generator = np.random.default_rng(0)
    groups = np.repeat([0, 1], 151)
    biased = (generator.random(302) < np.where(groups == 0, 0.9, 0.6)).astype(float)
    gap, low, high = bootstrap_gap(biased, groups, seed=0)
    assert gap == abs(biased[:151].mean() - biased[151:].mean())
    assert low < gap < high
    assert low > 0.1
    assert permutation_p_value(biased, groups, seed=0) < 0.01
    assert permutation_p_value(np.tile([0.0, 1.0], 151), groups, seed=0) > 0.1


def test_groups_of_a_column_follow_the_order_of_the_batches(tmp_path: Path):
    path = tmp_path / "texts.csv"
    names = ["north", "south", "west"]
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["text", "label", "region"])
        for i in range(61):  # the length of a text tells its region
            table.writerow(["ab" * (1 + i % 13), str(i % 2), names[i % 13 % 3]])
    data = LabelledText(
        str(path), vocabulary="characters", max_tokens=40, test_fraction=0.4, val_fraction=0.1
    )
    data.setup()
    found, groups = group_of_samples(data, "region")
    lengths = [n for batch in data.batches("test") for n in batch.lengths]
    assert found == names
    assert [found[i] for i in groups] == [names[(n // 2 - 1) % 3] for n in lengths]
    with pytest.raises(ValueError, match="there is no field 'area'"):
        group_of_samples(data, "area")
