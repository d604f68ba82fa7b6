"""A worker of a study: trains trials until there are no more."""

from __future__ import annotations

import math
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import optuna
import torch

from graphformer.cli.config.arguments import read_command
from graphformer.cli.errors import UsageError
from graphformer.cli.many_runs.job import Job, WorkerOptions, job_name
from graphformer.cli.many_runs.search import parse_search
from graphformer.cli.many_runs.study import (
    NAME,
    REASON,
    REFUSED,
    RESULT,
    WORKER,
    has_running,
    has_waiting,
    hide_messages,
    is_queued,
    num_begun,
    open_storage,
    worker_name,
)
from graphformer.cli.many_runs.training import train

_POLL = 1.0  # seconds between looks at the trials of other workers


def work(options: WorkerOptions) -> None:
    """Body of a worker process: it ends with its parent, which handles Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    torch.set_num_threads(options.threads)
    run_trials(options)


def run_trials(options: WorkerOptions) -> None:
    """Train the trials of a study until its number is reached and none waits or runs.

    While other workers train, this one waits: the trial of a worker that dies is queued again.
    """
    hide_messages()
    study = optuna.load_study(study_name=options.name, storage=open_storage(options.storage))
    study.sampler = make_sampler(study.user_attrs["sampler"])
    study.pruner = make_pruner(study.user_attrs["pruner"])
    while True:
        if has_waiting(study) or num_begun(study) < study.user_attrs["trials"]:
            study.optimize(_Objective(study, options), n_trials=1, catch=(Exception,))
        elif has_running(study):
            with _no_experimental_warning():
                optuna.storages.fail_stale_trials(study)
            time.sleep(_POLL)
        else:
            return


def make_sampler(name: str) -> optuna.samplers.BaseSampler:
    """Return Optuna's sampler; the points of a grid are in the queue, and need none."""
    return optuna.samplers.TPESampler() if name == "tpe" else optuna.samplers.RandomSampler()


def make_pruner(name: str) -> optuna.pruners.BasePruner:
    """Return Optuna's pruner."""
    if name == "median":
        return optuna.pruners.MedianPruner()
    if name == "halving":
        return optuna.pruners.SuccessiveHalvingPruner()
    return optuna.pruners.NopPruner()


class _Objective:
    """The value of the monitored metric of one trial, with the best checkpoint."""

    def __init__(self, study: optuna.Study, options: WorkerOptions) -> None:
        self.study, self.options = study, options

    def __call__(self, trial: optuna.Trial) -> float:
        own = self.study.get_trials(deepcopy=False)[trial.number]
        if not is_queued(own) and num_begun(self.study) > self.study.user_attrs["trials"]:
            raise RuntimeError("another worker has taken the last trial")
        job = make_job(self.study, trial, self.options.folder)
        trial.set_user_attr(NAME, job.name)
        trial.set_user_attr(WORKER, worker_name(os.getpid()))
        shutil.rmtree(job.folder, ignore_errors=True)  # files of a worker that has died
        job.folder.mkdir(parents=True)
        with _log(job.folder / "log.txt"):
            return self._train(job, trial)

    def _train(self, job: Job, trial: optuna.Trial) -> float:
        monitor = self.study.user_attrs["monitor"]
        try:
            result = train(job, trial, monitor)
            values = {**result["metrics"], **result["best"]}
            if monitor not in values and job.seed is None:
                raise UsageError(
                    f"--monitor: got {monitor!r}, expected one of {', '.join(sorted(values))}"
                )
        except UsageError as error:
            trial.set_user_attr(REFUSED, str(error))
            trial.set_user_attr(REASON, str(error))
            raise
        except optuna.TrialPruned:
            raise
        except Exception as error:
            traceback.print_exc()
            trial.set_user_attr(REASON, "".join(traceback.format_exception_only(error)).strip())
            raise
        trial.set_user_attr(RESULT, result)
        return float(values.get(monitor, math.inf))  # inf: the run had no validation


def make_job(study: optuna.Study, trial: optuna.Trial, folder: Path) -> Job:
    """Return the run of a trial: a fold and seed, or the settings of a sweep."""
    arguments: list[str] = list(study.user_attrs["arguments"])
    name, fold, seed = f"trial{trial.number}", None, None
    for setting, dimension in parse_search(study.user_attrs["search"]).items():
        value: Any = dimension.suggest(trial, setting)
        if setting == "fold":
            fold = int(value)
        elif setting == "seed":
            seed = int(value)
        else:
            arguments += read_command(["fit", f"--{setting}", str(value)]).arguments
    if seed is not None:
        name = job_name(fold, seed)
    return Job(arguments, fold, seed, folder / name)


@contextmanager
def _no_experimental_warning() -> Iterator[None]:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


@contextmanager
def _log(file: Path) -> Iterator[None]:
    """Redirect standard output and error, native code included, to a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    with file.open("wb", buffering=0) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    try:
        yield
    finally:
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
