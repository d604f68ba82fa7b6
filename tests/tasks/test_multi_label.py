"""Multi-label classification against torch's loss and scikit-learn's metrics."""

from __future__ import annotations

import pytest
import torch
from helpers.tasks import CLASSES, Batches, Linear, node_batch, trainer
from sklearn.metrics import average_precision_score, f1_score, precision_recall_fscore_support
from torch import Tensor
from torch.nn import functional as F
from torch_geometric.data import Data

from graphformer.tasks import MultiLabelClassification
from graphformer.tasks.multi_label import as_labels, binary_loss


def labelled(nodes: int, seed: int) -> Data:
    batch = node_batch(nodes, seed)
    generator = torch.Generator().manual_seed(seed)
    batch.y = torch.randint(2, (nodes, CLASSES), generator=generator)
    return batch


def task(**options: object) -> MultiLabelClassification:
    return MultiLabelClassification(Linear(), num_classes=CLASSES, level="node", **options)


@pytest.mark.parametrize("weights", [None, [0.5, 2.0, 1.0, 3.0, 0.25]])
def test_loss_and_gradient_are_those_of_torch_over_known_labels(
    weights: list[float] | None,
) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(13, CLASSES, generator=generator).requires_grad_()
    y = torch.randint(2, (13, CLASSES), generator=generator)
    y[3, 1] = y[7] = -100
    weight = None if weights is None else torch.tensor(weights)
    known = y >= 0
    terms = F.binary_cross_entropy_with_logits(
        logits, y.clamp(min=0).float(), pos_weight=weight, reduction="none"
    )
    expected = terms[known].mean()
    total, count = binary_loss(logits, y, weight)
    assert count == 13 * CLASSES - CLASSES - 1
    torch.testing.assert_close(total / count, expected)
    gradients = [torch.autograd.grad(x, logits)[0] for x in (total / count, expected)]
    torch.testing.assert_close(*gradients)


def test_metrics_are_those_of_scikit_learn() -> None:
    batches = [labelled(13, 0), labelled(17, 1)]
    names = ["accuracy", "f1", "f1_micro", "exact_match", "average_precision"]
    model = task(metrics=names, threshold=0.4)
    (result,) = trainer().test(model, Batches(batches), verbose=False)
    y = torch.cat([batch.y for batch in batches])
    with torch.no_grad():
        score = torch.cat([model(batch) for batch in batches]).sigmoid()
    predicted = (score > 0.4).long()
    expected = {
        "accuracy": (predicted == y).float().mean().item(),
        "exact_match": (predicted == y).all(1).float().mean().item(),
        "f1": f1_score(y, predicted, average="macro"),
        "f1_micro": f1_score(y, predicted, average="micro"),
        "average_precision": average_precision_score(y, score, average="macro"),
    }
    for name, value in expected.items():
        assert result[f"test/{name}"] == pytest.approx(value, abs=1e-6), name
    counts = model.class_counts()
    precision, recall, f1, support = precision_recall_fscore_support(y, predicted)
    torch.testing.assert_close(counts.precision.double(), torch.from_numpy(precision))
    torch.testing.assert_close(counts.recall.double(), torch.from_numpy(recall))
    torch.testing.assert_close(counts.f1.double(), torch.from_numpy(f1))
    assert counts.support.tolist() == support.tolist()


def test_training_learns_labels_and_uses_the_stage_mask() -> None:
    batch = labelled(11, 3)
    batch.train_mask = torch.arange(11) < 7
    batch.val_mask = batch.test_mask = ~batch.train_mask
    model = task(lr=0.0)
    run = trainer(max_steps=1)
    run.fit(model, Batches([batch]))
    with torch.no_grad():
        logits = model(batch)
    for split, name in (("train_mask", "train/loss"), ("val_mask", "val/loss")):
        rows = batch[split]
        expected = F.binary_cross_entropy_with_logits(logits[rows], batch.y[rows].float())
        torch.testing.assert_close(run.callback_metrics[name], expected)


def test_mixed_labels_are_a_mixture_of_losses() -> None:
    batch = labelled(7, 5)
    batch.share, batch.y_other = 0.3, batch.y.flip(0)
    run = trainer(max_steps=1, limit_val_batches=0)
    model = task(lr=0.0)
    run.fit(model, Batches([batch]))
    with torch.no_grad():
        target = 0.3 * batch.y + 0.7 * batch.y_other
        expected = F.binary_cross_entropy_with_logits(model(batch), target)
    torch.testing.assert_close(run.callback_metrics["train/loss"], expected)


@pytest.mark.parametrize(
    "y",
    [
        torch.tensor([[True, False], [False, False]]),
        torch.tensor([[1.0, float("nan")], [0.0, 0.0]]),
        torch.tensor([[1, -1], [0, 0]]),
    ],
)
def test_labels_of_several_types_are_read(y: Tensor) -> None:
    second = 0 if y.dtype == torch.bool else -100
    assert as_labels(y, 2).tolist() == [[1, second], [0, 0]]


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (torch.zeros(7), r"y: got labels of shape \(7,\), expected 0 or 1 for each of 5 labels"),
        (torch.zeros(7, 3), r"y: got labels of shape \(7, 3\)"),
        (torch.full((7, 5), 2), "y: got the label 2, expected 0 or 1, or -100"),
        (torch.full((7, 5), 0.5), "y: got the label 0.5, expected 0 or 1"),
    ],
)
def test_other_labels_are_refused(y: Tensor, message: str) -> None:
    batch = node_batch(7, 0)
    batch.y = y
    with pytest.raises(ValueError, match=message):
        trainer().validate(task(), Batches([batch]), verbose=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 1}, "num_classes: got 1, expected 2 labels or more"),
        ({"num_classes": 3, "threshold": 1.0}, "threshold: got 1.0, expected a probability"),
        ({"num_classes": 3, "metrics": ["f2"]}, "metrics: got 'f2', expected some of exact_match"),
    ],
)
def test_wrong_settings_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MultiLabelClassification(Linear(), **options)
