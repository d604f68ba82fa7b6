"""Losses and metrics of classes against sums by hand."""

from __future__ import annotations

import pytest
import torch
from helpers.tasks import CLASSES, Batches, Linear, node_batch, trainer
from torch.nn import functional as F

from graphformer.patterns import Complete
from graphformer.tasks import Classification, Task


def test_node_classification_counts_the_stage_mask():
    batch = node_batch(13, 0)
    masks = torch.arange(13)
    batch.train_mask, batch.val_mask, batch.test_mask = masks < 3, masks == 5, masks > 7
    task = Classification(Linear(), num_classes=CLASSES, level="node")
    (result,) = trainer().test(task, Batches([batch]), verbose=False)
    with torch.no_grad():
        logits = task(batch)[8:]
    right = (logits.argmax(1) == batch.y[8:]).float().mean().item()
    assert result["test/accuracy"] == pytest.approx(right)
    expected = F.cross_entropy(logits, batch.y[8:]).item()
    assert result["test/loss"] == pytest.approx(expected, rel=1e-5)


def test_auroc_of_two_classes_is_the_binary_one():
    batch = node_batch(17, 3)
    batch.y = batch.y % 2
    task = Classification(Linear(outputs=2), num_classes=2, level="node", metrics=["auroc"])
    (result,) = trainer().validate(task, Batches([batch]), verbose=False)
    with torch.no_grad():
        score = task(batch).softmax(1)[:, 1]
    positive, negative = score[batch.y == 1], score[batch.y == 0]
    pairs = positive[:, None] - negative[None]
    expected = ((pairs > 0).float() + 0.5 * (pairs == 0).float()).mean().item()
    assert result["val/auroc"] == pytest.approx(expected, abs=1e-6)


def test_wrong_level_is_named():
    batch = node_batch(7, 0)
    batch.y = torch.zeros(1, dtype=torch.int64)
    task: Task = Classification(Linear(), Complete(), num_classes=CLASSES)
    with pytest.raises(ValueError, match="level: got 'graph' and an output of 7 rows for 1"):
        trainer().validate(task, Batches([batch]), verbose=False)


def test_unknown_metric_is_named():
    with pytest.raises(ValueError, match="metrics: got 'acuracy', expected"):
        Classification(Linear(), num_classes=2, metrics=["acuracy"])  # type: ignore[list-item]
