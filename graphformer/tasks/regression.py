"""`Regression`: real-valued targets of nodes or whole samples."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torchmetrics import MeanAbsoluteError, MeanSquaredError
from typing_extensions import Unpack

from graphformer.batch_type import BatchLike
from graphformer.options import checked_options
from graphformer.patterns import Complete, Pattern
from graphformer.tasks.base import Stage, Task, Updates
from graphformer.tasks.labels import at_least_float32, check_output_rows, label_mask
from graphformer.tasks.options import TaskOptions


class Regression(Task):
    """Squared or absolute error of real-valued targets, with MAE and RMSE as metrics.

    `batch.y` is one number or T numbers per node or sample: [N], [B], [N, T] or [B, T]. If the
    batch has `train_mask`, `val_mask` and `test_mask` [N], each stage uses its own nodes.

    Args:
        network: returns predictions, [N, T] or [B, T]; T is 1 for targets [N] or [B].
        adjacency: pattern of the edges of attention.
        level: "node", or "graph" for one target per sample.
        loss: "mse" or "mae".
        options: those of `Task`.
    """

    @checked_options
    def __init__(
        self,
        network: nn.Module,
        adjacency: Pattern = Complete(),
        *,
        level: Literal["node", "graph"] = "graph",
        loss: Literal["mse", "mae"] = "mse",
        **options: Unpack[TaskOptions],
    ) -> None:
        super().__init__(network, adjacency, **options)
        self.level = level
        self.loss = loss
        self.add_metrics({"mae": MeanAbsoluteError(), "rmse": MeanSquaredError(squared=False)})

    def training_step(self, batch: BatchLike, batch_idx: int) -> Tensor:
        """Return the mean squared or absolute error, []."""
        prediction, y = self.labelled_outputs(batch, "train")
        error = prediction - y
        total = error.square().sum() if self.loss == "mse" else error.abs().sum()
        count = y.new_tensor(y.numel())
        return self.training_loss(total, count, rows=y.shape[0])

    def labelled_outputs(self, batch: BatchLike, stage: str) -> tuple[Tensor, Tensor]:
        """Return predictions and targets, both [rows, T], of the rows of a stage.

        Args:
            batch: of the data.
            stage: "train", "val" or "test", which selects nodes where a batch has masks.
        """
        prediction = check_output_rows(at_least_float32(self(batch)), batch.y, self.level)
        if batch.y.numel() != prediction.numel():
            hint = "set num_classes to the number of targets"
            if not batch.y.is_floating_point():  # perhaps classes
                hint += ", and `regression: true` where the data has that setting"
            raise ValueError(
                f"network: got an output {tuple(prediction.shape)}, expected as many numbers as "
                f"the targets {tuple(batch.y.shape)}; {hint}"
            )
        y = at_least_float32(batch.y).reshape(prediction.shape)
        mask = label_mask(batch, stage)
        return (prediction, y) if mask is None else (prediction[mask], y[mask])

    def evaluate(self, batch: BatchLike, batch_idx: int, stage: Stage) -> tuple[Updates, int]:
        """Return predictions and targets for both metrics."""
        prediction, y = self.labelled_outputs(batch, stage)
        return dict.fromkeys(self.metrics_of(stage), (prediction, y)), y.shape[0]
