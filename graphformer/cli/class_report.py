"""`ClassReport`: what `graphformer test` prints and draws for each class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.table import Table
from torch import Tensor

from graphformer.cli.plots.confusion import MAX_DRAWN, save_confusion
from graphformer.cli.prediction_files import class_names
from graphformer.tasks.class_counts import ClassCounts

MAX_ROWS = 40
_MAX_COLUMNS = 12


class ClassReport(Callback):
    """Prints precision, recall and F1 of each class, and the confusion matrix, after a test.

    Args:
        folder: where the picture of the confusion matrix is written; None for no picture.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.counts: ClassCounts | None = None

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Collect the counts of all processes."""
        count = getattr(pl_module, "class_counts", None)
        self.counts = None if count is None else count()

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the tables and write the picture, in the first process."""
        if self.counts is None or not trainer.is_global_zero:
            return
        known = class_names(getattr(trainer, "datamodule", None)) or []
        count = len(self.counts.support)
        names = known if len(known) == count else [str(number) for number in range(count)]
        if count > MAX_ROWS:
            print(f"{count} classes; tables have at most {MAX_ROWS}")
        else:
            Console().print(class_table(self.counts, names))
        if self.counts.confusion is not None:
            self._show_confusion(self.counts.confusion, names)

    def _show_confusion(self, confusion: Tensor, names: Sequence[str]) -> None:
        if len(names) <= _MAX_COLUMNS:
            Console().print(confusion_table(confusion, names))
        if self.folder is None or len(names) > MAX_DRAWN:
            return
        path = self.folder / "confusion.png"
        try:
            save_confusion(confusion, names, path)
        except OSError as error:  # the metrics are worth printing without the picture
            print(f"no picture of the confusion matrix: {error}")
        else:
            print(f"confusion matrix: {path}")


def class_table(counts: ClassCounts, names: Sequence[str]) -> Table:
    """Return a table with a row for each class; a value that is not defined is a dash."""
    table = Table("class")
    for name in ("precision", "recall", "F1", "samples"):
        table.add_column(name, justify="right")
    for number, name in enumerate(names):
        values = (counts.precision, counts.recall, counts.f1)
        cells = [_cell(float(value[number])) for value in values]
        table.add_row(name, *cells, str(int(counts.support[number])))
    return table


def confusion_table(confusion: Tensor, names: Sequence[str]) -> Table:
    """Return the counts with true classes by row and predicted ones by column."""
    table = Table("true \\ predicted")
    for name in names:
        table.add_column(name, justify="right")
    for name, row in zip(names, confusion.tolist(), strict=True):
        table.add_row(name, *map(str, row))
    return table


def report_folder(ckpt: Path | None) -> Path | None:
    """Return the folder of a checkpoint's run, or that of a checkpoint outside of a run."""
    if ckpt is None:
        return None
    folder = ckpt.resolve().parent
    return folder.parent if folder.name == "checkpoints" else folder


def _cell(value: float) -> str:
    return "-" if value != value else f"{value:.3f}"
