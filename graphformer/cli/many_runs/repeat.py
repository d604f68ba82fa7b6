"""`fit --folds K --seeds S`: trains every fold with every seed in parallel, and summarises them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from graphformer.cli.config.arguments import read_command, split_options
from graphformer.cli.errors import UsageError
from graphformer.cli.many_runs.job import RESULT, Job, WorkerOptions, job_name
from graphformer.cli.many_runs.pool import available_cores, run_workers
from graphformer.cli.many_runs.settings import config_names, inlined, runs_root, settings_key
from graphformer.cli.many_runs.study import (
    create_study,
    enqueue,
    num_begun,
    release_unfinished,
    sqlite_url,
)
from graphformer.cli.many_runs.summary import print_summary, write_summary

_COUNTS = ("--folds", "--seeds", "--jobs")
_EXCLUDED = ("--ckpt", "--seed_everything")
_LARGEST = 2**32 - 1  # seed


@dataclass(frozen=True)
class JobPlan:
    """The jobs of a command, one for each fold and seed.

    Attributes:
        command: the command line.
        folder: folder of all jobs and of the summary.
        jobs: the jobs.
        processes: number of processes; None for as many as cores and memory allow.
    """

    command: list[str]
    folder: Path
    jobs: list[Job]
    processes: int | None


def repeat(argv: list[str]) -> int:
    """Train all folds and seeds without results, print and save the summary; return the exit code.

    Raises:
        UsageError: when a setting is wrong, or another process uses the folder.
    """
    plan = plan_jobs(argv)
    plan.folder.mkdir(parents=True, exist_ok=True)
    with _exclusive(plan.folder):
        return _run_plan(plan)


def _run_plan(plan: JobPlan) -> int:
    finished, unfinished = _split_by_result(plan.jobs)
    if finished:
        print(f"{len(finished)} of {len(plan.jobs)} runs are already finished in {plan.folder}")
    reasons = _train(plan, unfinished) if unfinished else {}
    results, failed = _split_by_result(plan.jobs)
    failures = {job.name: reasons.get(job.name, "it has no result") for job in failed}
    if results:
        write_summary(plan.folder, plan.command, results, failures)
        print_summary(plan.folder, results)
    for name, reason in failures.items():
        print(f"failed: {name}: {reason} ({plan.folder / name / 'log.txt'})")
    return 1 if failures else 0


def _train(plan: JobPlan, jobs: Sequence[Job]) -> dict[str, str]:
    """Train jobs as trials of the study in their folder; return name -> why it failed."""
    storage = sqlite_url(plan.folder / "study.db")
    settings = {
        "arguments": jobs[0].arguments,
        "search": {name: [0, _LARGEST, "linear"] for name in jobs[0].point},
        "monitor": "val/loss",
        "sampler": "grid",
        "pruner": "none",
    }
    study = create_study(storage, "fit", settings)
    release_unfinished(study)  # of an interrupted command: this one alone has the folder
    enqueue(study, [job.point for job in jobs])
    study.set_user_attr("trials", num_begun(study))
    processes = plan.processes
    threads = max(1, available_cores() // min(len(jobs), processes or available_cores()))
    options = WorkerOptions(storage, "fit", plan.folder, threads)
    return run_workers(study, options, len(jobs), processes)


def plan_jobs(argv: list[str]) -> JobPlan:
    """Return the jobs of a command line with `--folds`, `--seeds` or `--jobs`.

    Their folder is `<root>/<experiment>-<data set>/<key>`, where the key is a hash of all
    settings: the same command finds its finished jobs, and other settings have another folder.

    Raises:
        UsageError: when a count is not a positive integer, or a seed or a checkpoint is set.
    """
    pairs = split_options(argv[1:])
    counts = {option: value for option, value in pairs if option in _COUNTS}
    settings = [(option, value) for option, value in pairs if option not in _COUNTS]
    for option, _ in settings:
        if option in _EXCLUDED:
            raise UsageError(f"{option} cannot be combined with --folds or --seeds: leave it out")
    words = [word for pair in settings for word in pair if word is not None]
    command = read_command([argv[0], *words])
    experiment = "-".join(config_names(command.arguments)) or "fit"
    folder = runs_root(words) / experiment / settings_key(inlined(command.arguments))
    folds: Sequence[int | None] = [None]
    if "--folds" in counts:
        folds = range(_positive("--folds", counts["--folds"]))
    seeds = range(_positive("--seeds", counts.get("--seeds", "1")))
    jobs = [
        Job(command.arguments, fold, seed, folder / job_name(fold, seed))
        for fold, seed in product(folds, seeds)
    ]
    processes = _positive("--jobs", counts["--jobs"]) if "--jobs" in counts else None
    return JobPlan(argv, folder, jobs, processes)


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """Lock the folder against other commands, except on Windows."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"another command is running in {folder}: wait until it ends"
            ) from None
        yield


def _split_by_result(jobs: Sequence[Job]) -> tuple[list[dict[str, Any]], list[Job]]:
    """Return the results of the finished jobs, and the unfinished jobs."""
    results, unfinished = [], []
    for job in jobs:
        file = job.folder / RESULT
        if file.is_file():
            results.append(json.loads(file.read_text(encoding="utf-8")))
        else:
            unfinished.append(job)
    return results, unfinished


def _positive(option: str, value: str | None) -> int:
    if value is None or not value.isdecimal() or int(value) < 1:
        raise UsageError(f"{option}: got {value!r}, expected an integer of 1 or more")
    return int(value)
