"""Pictures of what a network sees, in TensorBoard where that is installed."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger

from graphformer.cli.errors import UsageError
from graphformer.cli.plots.vision import default_figure, figure_functions


class LogPictures(Callback):
    """At the end of training, log the picture that `graphformer draw` would make.

    Args:
        count: how many images it shows.
    """

    def __init__(self, count: int = 6) -> None:
        self.count = count

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw and log, if there is something to see and somebody to show it to."""
        boards = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        task: Any = pl_module
        what = default_figure(task.network)
        data: Any = getattr(trainer, "datamodule", None)
        if not boards or what is None or not hasattr(data, "pixels") or not trainer.is_global_zero:
            return
        was_training, device = task.training, task.device
        task.eval().cpu()
        try:
            figure = figure_functions()[what](task, data, self.count)
        except UsageError:  # nothing to be seen, such as attention in a net without blocks
            return
        finally:
            task.train(was_training).to(device)
        for board in boards:
            board.experiment.add_figure(what, figure, trainer.global_step)
