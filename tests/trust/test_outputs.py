"""Outputs of a split: rows with labels, in the order of the batches."""

from __future__ import annotations

import pytest
import torch
from helpers.trust import given_run, random_split

from graphformer.trust import collect_outputs
from graphformer.trust.outputs import drawn_samples


def test_rows_without_a_label_are_left_out():
    logits, y = random_split(17, 3, 0)
    y[5] = y[11] = -100
    found = given_run({"test": (logits, y)}).outputs("test")
    assert torch.equal(found.output, logits[y >= 0])
    assert torch.equal(found.y, y[y >= 0])


def test_the_number_of_batches_can_be_limited():
    run = given_run({"test": random_split(17, 3, 0)})
    assert len(collect_outputs(run.task, run.data, "test", max_batches=2).y) == 14


def test_a_split_without_labels_is_refused():
    logits, y = random_split(5, 3, 0)
    with pytest.raises(ValueError, match="split: got 'test'"):
        given_run({"test": (logits, torch.full_like(y, -100))}).outputs("test")


def test_drawn_samples_are_from_all_of_a_split():
    drawn = drawn_samples(1000, 300, seed=0)
    assert drawn == sorted(set(drawn)) != drawn_samples(1000, 300, seed=1)
    assert len(drawn) == 300
    assert 100 < sum(number >= 500 for number in drawn) < 200
    assert drawn_samples(7, 300, seed=0) == list(range(7))
