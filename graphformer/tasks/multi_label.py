"""`MultiLabelClassification`: any number of labels for each node or sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import Metric
from torchmetrics.classification import (
    MultilabelAccuracy,
    MultilabelAUROC,
    MultilabelAveragePrecision,
    MultilabelConfusionMatrix,
    MultilabelExactMatch,
    MultilabelF1Score,
    MultilabelPrecision,
    MultilabelRecall,
)
from typing_extensions import Unpack

from graphformer.batch_type import IGNORE_INDEX, BatchLike
from graphformer.data.loader import is_padding
from graphformer.options import checked_options
from graphformer.patterns import Complete, Pattern
from graphformer.tasks.base import Stage, Task, Updates
from graphformer.tasks.class_counts import ClassCounts, of_label_confusion
from graphformer.tasks.class_weights import (
    ClassWeights,
    given_weights,
    positive_weights,
    training_labels,
)
from graphformer.tasks.labels import at_least_float32, check_output_rows, label_mask
from graphformer.tasks.metrics import Mean
from graphformer.tasks.options import TaskOptions

MultiLabelMetric = Literal[
    "accuracy", "exact_match", "f1", "f1_micro", "precision", "recall", "auroc", "average_precision"
]
_METRICS: dict[str, tuple[Callable[..., Metric], str]] = {
    "accuracy": (MultilabelAccuracy, "micro"),
    "f1": (MultilabelF1Score, "macro"),
    "f1_micro": (MultilabelF1Score, "micro"),
    "precision": (MultilabelPrecision, "macro"),
    "recall": (MultilabelRecall, "macro"),
    "auroc": (MultilabelAUROC, "macro"),
    "average_precision": (MultilabelAveragePrecision, "macro"),
}
_RANKINGS = ("auroc", "average_precision")


class MultiLabelClassification(Task):
    """Binary cross-entropy of K independent labels, with accuracy and macro F1 as metrics.

    `batch.y` is [N, K] or [B, K]: 1 for a label, 0 for none, and below 0 (or NaN) where it is not
    known. If the batch has `train_mask`, `val_mask` and `test_mask` [N], each stage uses its own
    nodes.

    Args:
        network: returns logits of the labels, [N, K] or [B, K].
        adjacency: pattern of the edges of attention.
        num_classes: K.
        level: "node", or "graph" for the labels of samples.
        metrics: any of "accuracy" and "f1_micro" (over all labels), "exact_match" (all labels of a
            sample), and "f1", "precision", "recall", "auroc" and "average_precision" (means over
            labels).
        threshold: probability from which a label is predicted.
        class_weights: of the positive terms of the training loss: K numbers, or "balanced" for
            negatives / positives of the training labels.
        options: those of `Task`.

    Raises:
        ValueError: when there are fewer than two labels, or a metric is unknown.
    """

    @checked_options
    def __init__(
        self,
        network: nn.Module,
        adjacency: Pattern = Complete(),
        *,
        num_classes: int,
        level: Literal["node", "graph"] = "graph",
        metrics: Sequence[MultiLabelMetric] = ("accuracy", "f1"),
        threshold: float = 0.5,
        class_weights: ClassWeights | None = None,
        **options: Unpack[TaskOptions],
    ) -> None:
        super().__init__(network, adjacency, **options)
        if num_classes < 2:
            raise ValueError(
                f"num_classes: got {num_classes}, expected 2 labels or more; for one label with "
                "yes and no use Classification with num_classes=2"
            )
        if not 0 < threshold < 1:
            raise ValueError(f"threshold: got {threshold}, expected a probability above 0, below 1")
        self.level, self.num_classes, self.threshold = level, num_classes, threshold
        self.class_weights = class_weights
        self.register_buffer(
            "loss_weights", given_weights(class_weights, num_classes), persistent=False
        )
        self.confusion = MultilabelConfusionMatrix(
            num_classes, threshold=threshold, ignore_index=IGNORE_INDEX, validate_args=False
        )
        self.add_metrics(
            {"loss": Mean(), **{name: _metric(name, num_classes, threshold) for name in metrics}}
        )

    def setup(self, stage: str) -> None:
        """Load pretrained weights, if any, and count the labels for balanced weights."""
        super().setup(stage)
        if stage == "fit" and self.class_weights == "balanced":
            y = training_labels(getattr(self.trainer, "datamodule", None))
            self.loss_weights = positive_weights(as_labels(y, self.num_classes))

    def on_test_epoch_start(self) -> None:
        """Reset the counts of an earlier test."""
        self.confusion.reset()

    def class_counts(self) -> ClassCounts:
        """Return the counts of the last test by label.

        In a distributed run all processes call this, and get the counts of all.
        """
        return of_label_confusion(self.confusion.compute())

    def labelled_outputs(self, batch: BatchLike, stage: str) -> tuple[Tensor, Tensor]:
        """Return logits and labels, both [rows, K], of a stage; -100 marks no label.

        Args:
            batch: of the data.
            stage: "train", "val" or "test", which selects nodes where a batch has masks.
        """
        logits = check_output_rows(at_least_float32(self(batch)), batch.y, self.level)
        y = as_labels(batch.y, logits.shape[1])
        mask = label_mask(batch, stage)
        return (logits, y) if mask is None else (logits[mask], y[mask])

    def training_step(self, batch: BatchLike, batch_idx: int) -> Tensor:
        """Return the mean binary cross-entropy, with mixed labels after mixup, []."""
        logits, y = self.labelled_outputs(batch, "train")
        total, count = binary_loss(logits, y, self.loss_weights)
        if getattr(batch, "share", None) is not None:  # mixup
            other = as_labels(batch.y_other, logits.shape[1])
            other_total, other_count = binary_loss(logits, other, self.loss_weights)
            total = batch.share * total + (1 - batch.share) * other_total
            count = batch.share * count + (1 - batch.share) * other_count
        return self.training_loss(total, count, rows=y.shape[0])

    def evaluate(self, batch: BatchLike, batch_idx: int, stage: Stage) -> tuple[Updates, int]:
        """Return the summed loss, and probabilities with labels for the other metrics."""
        logits, y = self.labelled_outputs(batch, stage)
        probabilities = logits.sigmoid()
        if stage == "test" and not is_padding(batch):
            self.confusion.update(probabilities, y)
        updates = dict.fromkeys(self.metrics_of(stage), (probabilities, y))
        updates["loss"] = binary_loss(logits, y)
        return updates, y.shape[0]


def binary_loss(
    logits: Tensor, y: Tensor, positive_weight: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the sum of the binary cross-entropy, [], and the number of known labels, [].

    Args:
        logits: [rows, K].
        y: 1, 0, or below 0 for a label that is not known, [rows, K].
        positive_weight: factor of the terms of positive labels, [K].
    """
    known = y >= 0
    weight = None if positive_weight is None else positive_weight.to(logits.dtype)
    terms = F.binary_cross_entropy_with_logits(
        logits, y.clamp(min=0).to(logits.dtype), pos_weight=weight, reduction="none"
    )
    return torch.where(known, terms, 0.0).sum(), known.sum()


def as_labels(y: Tensor, num_classes: int) -> Tensor:
    """Return labels as int64 [rows, K] with -100 where they are NaN or negative.

    Raises:
        ValueError: when they have another shape, or are other numbers than 0 and 1. The numbers
            are checked on a CPU only, as elsewhere it would wait for the device.
    """
    if y.ndim != 2 or y.shape[1] != num_classes:
        raise ValueError(
            f"y: got labels of shape {tuple(y.shape)}, expected 0 or 1 for each of {num_classes} "
            "labels, [rows, labels]; use the task Classification for one class a row"
        )
    y = y.long() if y.dtype == torch.bool else y
    unknown = (y < 0) | y.isnan()
    if y.device.type == "cpu":
        wrong = y[~(unknown | (y == 0) | (y == 1))]
        if len(wrong):
            raise ValueError(
                f"y: got the label {wrong[0].item():g}, expected 0 or 1, or {IGNORE_INDEX} where "
                "it is not known; use the task Regression for real values"
            )
    return torch.where(unknown, IGNORE_INDEX, y.nan_to_num().long())


def _metric(name: str, num_classes: int, threshold: float) -> Metric:
    if name == "exact_match":
        return MultilabelExactMatch(num_classes, threshold, ignore_index=IGNORE_INDEX)
    if name not in _METRICS:
        names = ", ".join(("exact_match", *_METRICS))
        raise ValueError(f"metrics: got {name!r}, expected some of {names}")
    make, average = _METRICS[name]
    if name in _RANKINGS:
        return make(num_classes, average=average, ignore_index=IGNORE_INDEX)
    return make(num_classes, threshold, average, ignore_index=IGNORE_INDEX)
