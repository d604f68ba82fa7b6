"""Regression of nodes or whole samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from torch import Tensor, nn
from torchmetrics import MeanAbsoluteError, MeanSquaredError
from typing_extensions import Unpack

from graphformer.options import checked_options
from graphformer.patterns import Complete, Pattern
from graphformer.tasks.base import Stage, Task, TaskOptions, Updates, check_output_rows, label_mask

if TYPE_CHECKING:
    from torch_geometric.data import Data


class Regression(Task):
    """Squared or absolute error on real targets, with MAE and RMSE.

    `batch.y` holds one number or T numbers a node or a sample: [N], [B], [N, T] or [B, T]. Where a
    batch has `train_mask`, `val_mask` and `test_mask` [N], each stage counts its own nodes.

    Args:
        network: predictions, [N, T] or [B, T]; T is 1 for a target without that axis.
        adjacency: who attends to whom.
        level: "node", or "graph" for one target a sample.
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

    def training_step(self, batch: Data, batch_idx: int) -> Tensor:
        """Mean loss over the batch's targets, []."""
        prediction, y = self._outputs(batch, "train")
        error = prediction - y
        total = error.square().sum() if self.loss == "mse" else error.abs().sum()
        count = y.new_tensor(y.numel())
        return self.training_loss(total, count, rows=y.shape[0])

    def _outputs(self, batch: Data, stage: str) -> tuple[Tensor, Tensor]:
        prediction = check_output_rows(self(batch).float(), batch.y, self.level)
        if batch.y.numel() != prediction.numel():
            raise ValueError(
                f"the network gave {tuple(prediction.shape)} for targets of shape "
                f"{tuple(batch.y.shape)}: build it with num_classes, the number of targets"
            )
        y = batch.y.float().reshape(prediction.shape)
        mask = label_mask(batch, stage)
        return (prediction, y) if mask is None else (prediction[mask], y[mask])

    def evaluate(self, batch: Data, batch_idx: int, stage: Stage) -> tuple[Updates, int]:
        """Predictions and targets."""
        prediction, y = self._outputs(batch, stage)
        return dict.fromkeys(self.metrics_of(stage), (prediction, y)), y.shape[0]
