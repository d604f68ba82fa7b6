"""Counts by class against scikit-learn."""

from __future__ import annotations

import numpy as np
import torch
from helpers.tasks import CLASSES, Batches, Linear, node_batch, trainer
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from graphformer.tasks import Classification


def test_counts_are_those_of_scikit_learn_over_all_batches() -> None:
    batches = [node_batch(13, 0, labels=[0, 2, 5, 7, 11, 12]), node_batch(17, 1)]
    task = Classification(Linear(), num_classes=CLASSES, level="node")
    run = trainer()
    for _ in range(2):  # a second test does not add to the first
        run.test(task, Batches(batches), verbose=False)
    y = torch.cat([batch.y for batch in batches])
    with torch.no_grad():
        predicted = torch.cat([task(batch) for batch in batches]).argmax(1)
    y, predicted = y[y >= 0].numpy(), predicted[y >= 0].numpy()
    counts = task.class_counts()
    assert counts is not None
    assert counts.confusion is not None
    labels = range(CLASSES)
    expected = confusion_matrix(y, predicted, labels=labels)
    assert counts.confusion.tolist() == expected.tolist()
    expected = precision_recall_fscore_support(y, predicted, labels=labels, zero_division=np.nan)
    for found, reference in zip(
        (counts.precision, counts.recall, counts.f1, counts.support), expected, strict=True
    ):
        np.testing.assert_allclose(found, reference, rtol=1e-6)


def test_many_classes_have_no_counts() -> None:
    assert Classification(Linear(), num_classes=1001).class_counts() is None
