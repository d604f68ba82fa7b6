"""A process of `fit --folds --seeds`: it trains the jobs that it is sent, and tests each."""

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
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from graphformer.cli import console
from graphformer.cli.callbacks import StopOnSignal
from graphformer.cli.commands.fit import CLI
from graphformer.cli.config.arguments import Command, find_checkpoint
from graphformer.cli.config.parser import import_object
from graphformer.cli.errors import UsageError, plain_errors
from graphformer.cli.many_runs.job import RESULT, Job
from graphformer.cli.profiling import peak_resident_memory
from graphformer.cli.run_dir import make_loggers, write_atomically
from graphformer.tasks import Task

_PAUSE = 0.5  # seconds between two reports


def work(connection: Connection, threads: int) -> None:
    """Train what comes through the connection; end with the process that started this one.

    An error that is no usage error ends this process, with its traceback in the job's log.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this one
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    while True:
        job: Job = connection.recv()
        job.folder.mkdir(parents=True)
        with _log(job.folder / "log.txt"):
            try:
                told: tuple[str, Any] = "done", train(job, connection)
            except UsageError as error:
                told = "refused", str(error)
        connection.send(told)


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
    """`fit` with a given fold and seed, then `test` with the best checkpoint."""

    metrics: dict[str, float]
    best: dict[str, float]
    fit_seconds: float

    def __init__(self, job: Job, connection: Connection) -> None:
        self.job, self.connection = job, connection
        arguments = [*job.arguments, "--seed_everything", str(job.seed)]
        super().__init__(Command("fit", arguments, None, None), folder=job.folder)

    def parse_arguments(self, parser: Any, args: Any) -> None:
        """Parse, and put the fold in."""
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
        """Build the trainer without a bar or TensorBoard."""
        assert self.folder is not None
        logger = make_loggers(self.folder)[:1]
        bar = {"enable_progress_bar": False}
        return super().instantiate_trainer(**{**kwargs, **bar, "logger": logger})

    def fit(self, model: Task, datamodule: pl.LightningDataModule) -> None:
        """Train, then test at the best checkpoint."""
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

    def _callbacks(self, given: Any) -> list[Callback]:
        """What a single run has, but for the last checkpoint where there is a best one."""
        callbacks = [c for c in super()._callbacks(given) if not isinstance(c, StopOnSignal)]
        if given.limit_val_batches != 0:
            callbacks = [c for c in callbacks if not _is_for_last_only(c)]
            for callback in callbacks:
                if isinstance(callback, ModelCheckpoint):
                    callback.save_last = None
        return [*callbacks, _Report(self.connection)]


def _is_for_last_only(callback: Callback) -> bool:
    return isinstance(callback, ModelCheckpoint) and callback.monitor is None


class _Report(Callback):
    """Tell the parent how far training is."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.next = 0.0

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        """Report now and then: of steps where their number is limited, else of epochs."""
        if time.monotonic() < self.next:
            return
        self.next = time.monotonic() + _PAUSE
        by_steps = trainer.max_steps > 0
        metrics = {k: v.item() for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
        told = {
            "done": trainer.global_step if by_steps else trainer.current_epoch,
            "total": trainer.max_steps if by_steps else trainer.max_epochs,
            "note": " ".join(f"{name} {value:.3f}" for name, value in sorted(metrics.items())),
            "memory": peak_resident_memory(),
        }
        self.connection.send(("progress", told))


@contextmanager
def _log(file: Path) -> Iterator[None]:
    """Send what this process writes, its libraries included, to a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    with file.open("wb", buffering=0) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    yield  # not in `finally`: after an error the traceback belongs to the log
    sys.stdout.flush()
    sys.stderr.flush()
    for number, copy in zip((1, 2), saved, strict=True):
        os.dup2(copy, number)
        os.close(copy)


def _end_with_parent() -> None:
    """Leave no orphan should the parent be killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
