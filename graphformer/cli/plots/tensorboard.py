"""Figures of a trained network in TensorBoard, if it is installed."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from torch.distributed.fsdp import FSDPModule

from graphformer.cli.errors import UsageError
from graphformer.cli.plots.vision import default_figure, figure_functions


class LogFigures(Callback):
    """Logs, at the end of training, the figure that `graphformer draw` makes by default.

    Args:
        count: number of images in the figure.
    """

    def __init__(self, count: int = 6) -> None:
        self.count = count

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw and log, if the network processes images and there is a TensorBoard logger.

        A network whose parameters are sharded is not drawn: all processes would have to run it.
        """
        boards = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        task: Any = pl_module
        kind = default_figure(task.network)
        data: Any = getattr(trainer, "datamodule", None)
        if isinstance(task, FSDPModule) or not trainer.is_global_zero:
            return
        if not boards or kind is None or not hasattr(data, "pixels"):
            return
        was_training, device = task.training, task.device
        task.eval().cpu()
        try:
            figure = figure_functions()[kind](task, data, self.count)
        except UsageError:  # the network has nothing to draw, such as no attention blocks
            return
        finally:
            task.train(was_training).to(device)
        for board in boards:
            board.experiment.add_figure(kind, figure, trainer.global_step)
