"""`Classification`: classes of nodes, or of whole samples (graphs, images, texts)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import Metric
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassAUROC,
    MulticlassConfusionMatrix,
    MulticlassF1Score,
    MulticlassPrecision,
    MulticlassRecall,
)
from typing_extensions import Unpack

from graphformer.batch_type import IGNORE_INDEX, BatchLike
from graphformer.data.loader import is_padding
from graphformer.options import checked_options
from graphformer.patterns import Complete, Pattern
from graphformer.tasks.base import Stage, Task, Updates
from graphformer.tasks.class_counts import MAX_CLASSES, ClassCounts, of_confusion
from graphformer.tasks.class_weights import (
    ClassWeights,
    balanced_weights,
    given_weights,
    training_labels,
)
from graphformer.tasks.labels import at_least_float32, check_output_rows, label_mask
from graphformer.tasks.metrics import Mean
from graphformer.tasks.options import TaskOptions

MetricName = Literal["accuracy", "balanced_accuracy", "f1", "precision", "recall", "auroc"]
TEMPERATURE_KEY = "temperature"
"""Where a checkpoint stores the temperature."""


class ClassificationOptions(TaskOptions, total=False):
    """The options of `Classification` that `EdgeClassification` accepts too."""

    label_smoothing: float
    class_weights: ClassWeights | None


class Classification(Task):
    """Cross-entropy over classes, with accuracy, macro F1 and ROC-AUC as metrics.

    `batch.y` is one class per node, [N], or per sample, [B]; -100 marks rows without a label. If
    the batch has `train_mask`, `val_mask` and `test_mask` [N], each stage uses its own nodes. Where
    it has `class_probabilities` [B, K], these are the targets in training.

    Args:
        network: returns logits over the classes, [N, K] or [B, K].
        adjacency: pattern of the edges of attention.
        num_classes: K.
        level: "node", or "graph" for one label per sample (an image is a graph of patches); "edge"
            is for `EdgeClassification`.
        metrics: any of "accuracy", "balanced_accuracy", "auroc" (one class against the rest),
            "f1", "precision" and "recall"; all but accuracy are means over classes.
        label_smoothing: share of the label that is distributed over all classes in training.
        class_weights: of the training loss, which is a weighted mean: K numbers, or "balanced"
            for the inverse frequencies of the training labels. Validation loss is not weighted.
        options: those of `Task`.

    Attributes:
        temperature: what `predict_step` divides logits by; `graphformer trust` fits it on the
            validation split and stores it in the checkpoint. Losses and metrics do not use it.

    Raises:
        ValueError: when there are fewer than two classes, or a metric is unknown.
    """

    @checked_options
    def __init__(
        self,
        network: nn.Module,
        adjacency: Pattern = Complete(),
        *,
        num_classes: int,
        level: Literal["node", "graph", "edge"] = "graph",
        metrics: Sequence[MetricName] = ("accuracy", "f1"),
        label_smoothing: float = 0.0,
        class_weights: ClassWeights | None = None,
        **options: Unpack[TaskOptions],
    ) -> None:
        super().__init__(network, adjacency, **options)
        if num_classes < 2:
            raise ValueError(
                f"num_classes: got {num_classes}, expected 2 or more; for data without classes use "
                "the task Regression"
            )
        self.level, self.num_classes = level, num_classes
        self.label_smoothing, self.class_weights = label_smoothing, class_weights
        self.register_buffer(
            "loss_weights", given_weights(class_weights, num_classes), persistent=False
        )
        self.confusion: MulticlassConfusionMatrix | None = None
        if num_classes <= MAX_CLASSES:
            self.confusion = MulticlassConfusionMatrix(
                num_classes, ignore_index=IGNORE_INDEX, validate_args=False
            )
        self.temperature = 1.0
        self.add_metrics({"loss": Mean(), **{name: _metric(name, num_classes) for name in metrics}})

    def predict_step(self, batch: BatchLike, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Return the logits divided by the temperature, [N, K] or [B, K]."""
        logits: Tensor = super().predict_step(batch, batch_idx, dataloader_idx)
        return logits if self.temperature == 1.0 else logits / self.temperature

    def setup(self, stage: str) -> None:
        """Load pretrained weights, if any, and count the labels for balanced class weights."""
        super().setup(stage)
        if stage == "fit" and self.class_weights == "balanced":
            y = training_labels(getattr(self.trainer, "datamodule", None))
            _check_classes(y, self.num_classes)
            self.loss_weights = balanced_weights(y, self.num_classes)

    def on_test_epoch_start(self) -> None:
        """Reset the counts of an earlier test."""
        if self.confusion is not None:
            self.confusion.reset()

    def class_counts(self) -> ClassCounts | None:
        """Return the counts of the last test by class; None with more than 1,000 classes.

        In a distributed run all processes call this, and get the counts of all.
        """
        return None if self.confusion is None else of_confusion(self.confusion.compute())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the settings, and the temperature if one was fitted."""
        super().on_save_checkpoint(checkpoint)
        if self.temperature != 1.0:
            checkpoint[TEMPERATURE_KEY] = self.temperature

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the temperature of a checkpoint."""
        self.temperature = float(checkpoint.get(TEMPERATURE_KEY, 1.0))

    def on_train_start(self) -> None:
        """Drop the temperature of a resumed run, which was fitted to other weights."""
        super().on_train_start()
        self.temperature = 1.0

    def training_step(self, batch: BatchLike, batch_idx: int) -> Tensor:
        """Return the cross-entropy, with mixed labels after mixup, []."""
        logits, y = self.labelled_outputs(batch, "train")
        total, count = self._loss(logits, y, getattr(batch, "class_probabilities", None))
        if getattr(batch, "share", None) is not None:  # mixup
            other_total, other_count = self._loss(logits, batch.y_other)
            total = batch.share * total + (1 - batch.share) * other_total
            count = batch.share * count + (1 - batch.share) * other_count
        return self.training_loss(total, count, rows=y.shape[0])

    def _loss(
        self, logits: Tensor, y: Tensor, probabilities: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the sum of the cross-entropy, [], and the number of labels or their weight, []."""
        weights: Tensor | None = self.loss_weights
        total = F.cross_entropy(
            logits,
            y if probabilities is None else probabilities.to(logits.dtype),
            weight=None if weights is None else weights.to(logits.dtype),
            ignore_index=IGNORE_INDEX,
            reduction="sum",
            label_smoothing=self.label_smoothing,
        )
        labelled = y != IGNORE_INDEX
        if weights is None:
            return total, labelled.sum()
        if probabilities is not None:
            return total, (probabilities.to(weights.dtype) @ weights).sum()
        return total, torch.where(labelled, weights[y.clamp(min=0)], 0.0).sum()

    def labelled_outputs(self, batch: BatchLike, stage: str) -> tuple[Tensor, Tensor]:
        """Return logits [rows, K] and classes [rows] of the rows of a stage; -100 marks no label.

        Args:
            batch: of the data.
            stage: "train", "val" or "test", which selects nodes or edges where a batch has masks.
        """
        y = batch.edge_label if self.level == "edge" else batch.y
        logits = check_output_rows(at_least_float32(self(batch)), y, self.level)
        _check_classes(y, logits.shape[1])
        mask = label_mask(batch, stage, self.level)
        return (logits, y) if mask is None else (logits[mask], y[mask])

    def evaluate(self, batch: BatchLike, batch_idx: int, stage: Stage) -> tuple[Updates, int]:
        """Return the sum of the cross-entropy, and logits with labels for the other metrics."""
        logits, y = self.labelled_outputs(batch, stage)
        total = F.cross_entropy(logits, y, ignore_index=IGNORE_INDEX, reduction="sum")
        if stage == "test" and self.confusion is not None and len(y) and not is_padding(batch):
            self.confusion.update(logits, y)
        updates = dict.fromkeys(self.metrics_of(stage), (logits, y))
        updates["loss"] = total, (y != IGNORE_INDEX).sum()
        return updates, y.shape[0]


def _check_classes(y: Tensor, num_classes: int) -> None:
    """Check that labels are one class a row: `cross_entropy` reads float labels as probabilities.

    Raises:
        ValueError: when they have several columns, are no integers, or are out of range. The range
            is checked on a CPU only, as elsewhere it would wait for the device.
    """
    if y.ndim != 1 or y.is_floating_point():
        raise ValueError(
            f"y: got labels of shape {tuple(y.shape)} and {y.dtype}, expected one integer class a "
            "row, [rows]; use the task MultiLabelClassification for several labels, Regression for "
            "real values"
        )
    if y.device.type != "cpu":
        return
    labels = y[y != IGNORE_INDEX]
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        wrong = int(labels.min()) if int(labels.min()) < 0 else int(labels.max())
        raise ValueError(
            f"y: got the class {wrong}, expected 0 to {num_classes - 1} or {IGNORE_INDEX} for no "
            "label; renumber the classes or build network and task with more"
        )


_METRICS: dict[str, tuple[Callable[..., Metric], str]] = {
    "accuracy": (MulticlassAccuracy, "micro"),
    "balanced_accuracy": (MulticlassAccuracy, "macro"),
    "f1": (MulticlassF1Score, "macro"),
    "precision": (MulticlassPrecision, "macro"),
    "recall": (MulticlassRecall, "macro"),
    "auroc": (MulticlassAUROC, "macro"),
}


def _metric(name: str, num_classes: int) -> Metric:
    if name not in _METRICS:
        raise ValueError(f"metrics: got {name!r}, expected some of {', '.join(_METRICS)}")
    make, average = _METRICS[name]
    return make(num_classes, average=average, ignore_index=IGNORE_INDEX)
