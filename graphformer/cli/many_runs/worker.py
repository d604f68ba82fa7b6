"""A process of `fit --folds --seeds`: trains and tests the jobs that the parent sends."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback

from graphformer.cli import console
from graphformer.cli.callbacks import SaveLast, StopOnSignal
from graphformer.cli.commands.fit import CLI
from graphformer.cli.config.arguments import Command, find_checkpoint
from graphformer.cli.config.parser import import_object
from graphformer.cli.errors import UsageError, plain_errors
from graphformer.cli.many_runs.job import RESULT, Job
from graphformer.cli.profiling import peak_resident_memory
from graphformer.cli.run_dir import make_loggers, write_atomically
from graphformer.tasks import Task

_REPORT_INTERVAL = 0.5  # seconds


def work(connection: Connection, threads: int) -> None:
    """Train the jobs that the connection delivers, until the parent ends.

    An error other than a usage error ends this process, with its traceback in the job's log.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and kills its workers
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    while True:
        job: Job = connection.recv()
        job.folder.mkdir(parents=True)
        with _log(job.folder / "log.txt"):
            try:
                message: tuple[str, Any] = "done", train(job, connection)
            except UsageError as error:
                message = "refused", str(error)
        connection.send(message)


def train(job: Job, connection: Connection) -> dict[str, float]:
    """Train and test one job, write its `result.json`, and return its test metrics."""
    start = time.perf_counter()
    with console.quiet(), plain_errors():
        run = _Run(job, connection)
    result = {
        "fold": job.fold,
        "seed": job.seed,
        "metrics": run.metrics,
        "best": run.best,
        "epochs": run.trainer.current_epoch,
        "steps": run.trainer.global_step,
        "fit_seconds": round(run.fit_seconds, 2),
        "seconds": round(time.perf_counter() - start, 2),
        "peak_memory": peak_resident_memory(),
    }
    write_atomically(job.folder / RESULT, json.dumps(result, indent=2) + "\n")
    return run.metrics


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

    def __init__(self, job: Job, connection: Connection) -> None:
        self.job, self.connection = job, connection
        arguments = [*job.arguments, "--seed_everything", str(job.seed)]
        super().__init__(Command("fit", arguments, None, None), folder=job.folder)

    def parse_arguments(self, parser: Any, args: Any) -> None:
        """Parse the arguments and set the fold of the data."""
        super().parse_arguments(parser, args)
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
        logger = make_loggers(self.folder)[:1]
        fixed = {"enable_progress_bar": False, "logger": logger}
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
        return [*kept, _Report(self.connection)]


class _Report(Callback):
    """Reports the progress of training to the parent."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.next_report = 0.0

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        """Report the steps if `max_steps` is set, otherwise the epochs."""
        if time.monotonic() < self.next_report:
            return
        self.next_report = time.monotonic() + _REPORT_INTERVAL
        by_steps = trainer.max_steps > 0
        metrics = {k: v.item() for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
        report = {
            "done": trainer.global_step if by_steps else trainer.current_epoch,
            "total": trainer.max_steps if by_steps else trainer.max_epochs,
            "note": " ".join(f"{name} {value:.3f}" for name, value in sorted(metrics.items())),
            "memory": peak_resident_memory(),
        }
        self.connection.send(("progress", report))


@contextmanager
def _log(file: Path) -> Iterator[None]:
    """Redirect standard output and error, native code included, to a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    with file.open("wb", buffering=0) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    yield  # without `finally`, so that the traceback of an error is written to the log
    sys.stdout.flush()
    sys.stderr.flush()
    for number, copy in zip((1, 2), saved, strict=True):
        os.dup2(copy, number)
        os.close(copy)


def _exit_with_parent() -> None:
    """Exit when the parent process ends, even if it was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
