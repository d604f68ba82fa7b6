"""Weights of classes against torch's weighted mean, and balanced weights against counts."""

from __future__ import annotations

import pytest
import torch
from helpers.tasks import CLASSES, Batches, Linear, node_batch, trainer
from torch.nn import functional as F
from torch.optim import Optimizer

from graphformer import data, models, patterns
from graphformer.tasks import Classification
from graphformer.tasks.class_weights import balanced_weights, positive_weights

WEIGHTS = [0.5, 2.0, 0.0, 1.0, 0.25]


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_loss_is_that_of_a_weighted_mean(smoothing: float) -> None:
    batch = node_batch(13, 0, labels=[0, 2, 3, 5, 7, 11])
    task = Classification(
        Linear(), num_classes=CLASSES, level="node", class_weights=WEIGHTS,
        label_smoothing=smoothing, lr=0.0,
    )  # fmt: skip
    run = trainer(max_steps=1, limit_val_batches=0)
    run.fit(task, Batches([batch]))
    expected = F.cross_entropy(
        task(batch).detach(), batch.y, weight=torch.tensor(WEIGHTS), label_smoothing=smoothing
    )
    torch.testing.assert_close(run.callback_metrics["train/loss"], expected)


class KeepsGradients(Classification):
    """Keeps the gradients of its step."""

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        super().on_before_optimizer_step(optimizer)
        self.gradients = [parameter.grad.clone() for parameter in self.network.parameters()]


def test_accumulated_batches_are_one_weighted_mean() -> None:
    batches = [node_batch(7, 1), node_batch(11, 2)]
    y = torch.cat([batch.y for batch in batches])
    task = KeepsGradients(Linear(), num_classes=CLASSES, level="node", class_weights=WEIGHTS)
    logits = torch.cat([task(batch) for batch in batches])
    loss = F.cross_entropy(logits, y, weight=torch.tensor(WEIGHTS))
    expected = torch.autograd.grad(loss, list(task.network.parameters()))
    trainer(accumulate_grad_batches=2, limit_val_batches=0).fit(task, Batches(batches))
    torch.testing.assert_close(tuple(task.gradients), expected)


def test_a_batch_whose_labels_have_no_weight_has_no_loss() -> None:
    batch = node_batch(7, 0)
    batch.y = torch.full((7,), 2)
    task = Classification(Linear(), num_classes=CLASSES, level="node", class_weights=WEIGHTS)
    run = trainer(max_steps=1, limit_val_batches=0)
    run.fit(task, Batches([batch]))
    assert float(run.callback_metrics["train/loss"]) == 0
    assert all(torch.isfinite(parameter).all() for parameter in task.parameters())


def test_balanced_weights_are_inverse_frequencies_of_the_training_labels() -> None:
    y = torch.tensor([0, 0, 0, 1, -100, 3, 3])
    expected = torch.tensor([6 / (3 * 3), 6 / 3, 1.0, 6 / (3 * 2)])
    torch.testing.assert_close(balanced_weights(y, 4), expected)
    rings = data.RingTransfer(num_nodes=5, num_classes=3, batch_size=7, train_size=23, test_size=7)
    network = models.gat(num_features=5, num_classes=3, dim=4, num_heads=2)
    task = Classification(
        network, patterns.Edges(), num_classes=3, level="node", class_weights="balanced"
    )
    trainer(max_steps=1, limit_val_batches=0).fit(task, datamodule=rings)
    expected = balanced_weights(rings.train_labels(), 3)
    torch.testing.assert_close(task.loss_weights, expected)
    assert len(rings.train_labels()) == 23 * 5


def test_positive_weights_are_negatives_by_positives() -> None:
    y = torch.tensor([[1, 1, 0], [0, 1, 0], [0, -1, 0], [0, 0, 0]])
    assert positive_weights(y).tolist() == [3.0, 0.5, 1.0]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, 2.0], "class_weights: got 2 numbers for 5 classes"),
        ([1.0, 1.0, 1.0, 1.0, -1.0], "expected finite numbers of 0 or more"),
        ([0.0] * 5, "some of them above 0"),
        ([1.0, 1.0, 1.0, 1.0, float("nan")], "expected finite numbers"),
        ("balance", "class_weights: got 'balance', expected 'balanced' or numbers"),
    ],
)
def test_wrong_weights_are_named(weights: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Classification(Linear(), num_classes=CLASSES, class_weights=weights)


def test_balanced_weights_need_data_with_labels() -> None:
    task = Classification(Linear(), num_classes=CLASSES, level="node", class_weights="balanced")
    with pytest.raises(ValueError, match="class_weights: got 'balanced' with Batches"):
        trainer(max_steps=1).fit(task, Batches([node_batch(7, 0)]))
