"""One run of many: trains, validates and tests with the best checkpoint, and reports to a trial."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback

from graphformer.cli import console
from graphformer.cli.callbacks import SaveLast, StopOnSignal
from graphformer.cli.commands.fit import CLI
from graphformer.cli.config.arguments import Command, find_checkpoint
from graphformer.cli.config.loggers import logger_names, make_logger
from graphformer.cli.config.parser import import_object
from graphformer.cli.errors import UsageError, plain_errors
from graphformer.cli.many_runs.job import RESULT, Job
from graphformer.cli.many_runs.study import STARTED
from graphformer.cli.profiling import peak_resident_memory
from graphformer.cli.run_dir import write_atomically
from graphformer.tasks import Task

if TYPE_CHECKING:
    from optuna.trial import BaseTrial


def train(job: Job, trial: BaseTrial, monitor: str) -> dict[str, Any]:
    """Train and test one job, write its `result.json`, and return the result.

    Args:
        job: the settings and the folder.
        trial: what validations are reported to, and what may prune the run.
        monitor: the metric that is reported.

    Raises:
        UsageError: when a setting is wrong.
        optuna.TrialPruned: when the study's pruner ends the run.
    """
    start = time.perf_counter()
    with console.quiet(), plain_errors():
        run = _Run(job, trial, monitor)
    result = {
        "fold": job.fold,
        "seed": run.config.fit.seed_everything if job.seed is None else job.seed,
        "metrics": run.metrics,
        "best": run.best,
        "epochs": run.trainer.current_epoch,
        "steps": run.trainer.global_step,
        "fit_seconds": round(run.fit_seconds, 2),
        "seconds": round(time.perf_counter() - start, 2),
        "peak_memory": peak_resident_memory(),
    }
    write_atomically(job.folder / RESULT, json.dumps(result, indent=2) + "\n")
    return result


class _Run(CLI):
    """`fit` of one fold and seed, then `test` with the best checkpoint.

    Attributes:
        metrics: test metrics.
        best: validation metrics of the best checkpoint.
        fit_seconds: duration of the training.
    """

    metrics: dict[str, float]
    best: dict[str, float]
    fit_seconds: float

    def __init__(self, job: Job, trial: BaseTrial, monitor: str) -> None:
        self.job, self.report = job, _Report(trial, monitor)
        seed = [] if job.seed is None else ["--seed_everything", str(job.seed)]
        command = Command("fit", [*job.arguments, *seed], None, None)
        super().__init__(command, folder=job.folder)

    def parse_arguments(self, parser: Any, args: Any) -> None:
        """Parse the arguments and set the fold of the data."""
        super().parse_arguments(parser, args)
        names = [name for name in logger_names(self.config.fit.trainer.logger) if name != "csv"]
        if names:
            raise UsageError(
                f"trainer.logger: got {names[0]}, expected csv in many runs; drop it, and see "
                "`graphformer runs` for a table"
            )
        data, fold = self.config.fit.data, self.job.fold
        if fold is None:
            return
        kind = import_object(data.class_path)
        setting = getattr(kind, "fold_setting", None)
        if setting is None:
            raise UsageError(f"{kind.__name__} has no folds or fixed splits: leave --folds out")
        count = data.init_args.get("num_folds") or kind.num_folds
        if fold >= count:
            raise UsageError(f"{kind.__name__} has {count} folds: --folds asks for more")
        data.init_args[setting] = fold

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """Build the trainer without a progress bar and with the CSV logger alone."""
        assert self.folder is not None
        fixed = {"enable_progress_bar": False, "logger": make_logger("csv", self.folder)}
        return super().instantiate_trainer(**{**kwargs, **fixed})

    def fit(self, model: Task, datamodule: pl.LightningDataModule) -> None:
        """Train, then validate and test with the best checkpoint."""
        assert self.folder is not None
        start = time.perf_counter()
        self.trainer.fit(model, datamodule=datamodule)
        self.fit_seconds = time.perf_counter() - start
        ckpt = find_checkpoint(str(self.folder), "test")
        weights = torch.load(ckpt, map_location="cpu", weights_only=True)["state_dict"]
        model.load_state_dict(weights)
        self.best = self._evaluate_quietly(self.trainer.validate, model, datamodule)
        self.metrics = self._evaluate_quietly(self.trainer.test, model, datamodule)

    def _evaluate_quietly(
        self, method: Any, model: Task, datamodule: pl.LightningDataModule
    ) -> dict[str, float]:
        return {
            name: value
            for result in method(model, datamodule=datamodule, verbose=False)
            for name, value in result.items()
        }

    def _callbacks(self, folder: Path, settings: Any, own: list[Callback]) -> list[Callback]:
        """Return the callbacks of a single run; a best checkpoint replaces the last one."""
        excluded: tuple[type[Callback], ...] = (StopOnSignal,)
        if settings.limit_val_batches != 0:
            excluded = (StopOnSignal, SaveLast)
        callbacks = super()._callbacks(folder, settings, own)
        kept = [each for each in callbacks if not isinstance(each, excluded)]
        return [*kept, self.report]


class _Report(Callback):
    """Reports that training has started and each value of a metric, and ends pruned runs."""

    def __init__(self, trial: BaseTrial, monitor: str) -> None:
        self.trial, self.monitor = trial, monitor
        self.has_started = False

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        """Report the first step."""
        if not self.has_started:
            self.has_started = True
            self.trial.set_user_attr(STARTED, True)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report the metric, and end the run if the pruner says so."""
        import optuna

        value = trainer.callback_metrics.get(self.monitor)
        if trainer.sanity_checking or trainer.state.fn != "fit" or value is None:
            return
        if math.isfinite(value.item()):  # a storage has no other numbers in common with ours
            self.trial.report(value.item(), trainer.global_step)
        if self.trial.should_prune():
            raise optuna.TrialPruned(f"{self.monitor} {value.item():.4f}")
