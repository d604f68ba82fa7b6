"""`Classification`: classes of nodes, or of whole samples (graphs, images, texts)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy, MulticlassAUROC, MulticlassF1Score
from typing_extensions import Unpack

from graphformer.batch_type import IGNORE_INDEX, BatchLike
from graphformer.options import checked_options
from graphformer.patterns import Complete, Pattern
from graphformer.tasks.base import (
    Stage,
    Task,
    TaskOptions,
    Updates,
    at_least_float32,
    check_output_rows,
    label_mask,
)
from graphformer.tasks.metrics import Mean

TEMPERATURE_KEY = "temperature"
"""Where a checkpoint stores the temperature."""


class ClassificationOptions(TaskOptions, total=False):
    """The options of `Classification` that `EdgeClassification` accepts too."""

    label_smoothing: float


class Classification(Task):
    """Cross-entropy over classes, with accuracy, macro F1 and ROC-AUC as metrics.

    `batch.y` is one class per node, [N], or per sample, [B]; -100 marks rows without a label. If
    the batch has `train_mask`, `val_mask` and `test_mask` [N], each stage uses its own nodes.

    Args:
        network: returns logits over the classes, [N, K] or [B, K].
        adjacency: pattern of the edges of attention.
        num_classes: K.
        level: "node", or "graph" for one label per sample (an image is a graph of patches); "edge"
            is for `EdgeClassification`.
        metrics: any of "accuracy", "f1" (macro) and "auroc" (macro, one class against the rest).
        label_smoothing: share of the label that is distributed over all classes in training.
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
        metrics: Sequence[Literal["accuracy", "f1", "auroc"]] = ("accuracy", "f1"),
        label_smoothing: float = 0.0,
        **options: Unpack[TaskOptions],
    ) -> None:
        super().__init__(network, adjacency, **options)
        if num_classes < 2:
            raise ValueError(
                f"num_classes: got {num_classes}, expected 2 or more; for data without classes use "
                "the task Regression"
            )
        self.level = level
        self.label_smoothing = label_smoothing
        self.temperature = 1.0
        self.add_metrics({"loss": Mean(), **{name: _metric(name, num_classes) for name in metrics}})

    def predict_step(self, batch: BatchLike, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Return the logits divided by the temperature, [N, K] or [B, K]."""
        logits: Tensor = super().predict_step(batch, batch_idx, dataloader_idx)
        return logits if self.temperature == 1.0 else logits / self.temperature

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
        loss: dict[str, Any] = {"reduction": "sum", "label_smoothing": self.label_smoothing}
        total = F.cross_entropy(logits, y, ignore_index=IGNORE_INDEX, **loss)
        if getattr(batch, "share", None) is not None:  # mixup
            other = F.cross_entropy(logits, batch.y_other, **loss)
            total = batch.share * total + (1 - batch.share) * other
        return self.training_loss(total, (y != IGNORE_INDEX).sum(), rows=y.shape[0])

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
            "row, [rows]; use the task Regression for several or real-valued targets"
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


def _metric(name: str, num_classes: int) -> Metric:
    if name == "accuracy":
        return MulticlassAccuracy(num_classes, average="micro", ignore_index=IGNORE_INDEX)
    if name == "f1":
        return MulticlassF1Score(num_classes, average="macro", ignore_index=IGNORE_INDEX)
    if name == "auroc":
        return MulticlassAUROC(num_classes, average="macro", ignore_index=IGNORE_INDEX)
    raise ValueError(f"metrics: got {name!r}, expected 'accuracy', 'f1' or 'auroc'")
