"""`fit --folds K --seeds S`: every fold with every seed, in parallel, and a table at the end."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from graphformer.cli.config.arguments import read_command, split_options
from graphformer.cli.errors import UsageError
from graphformer.cli.many_runs.job import RESULT, Job
from graphformer.cli.many_runs.pool import Failure, run_jobs
from graphformer.cli.many_runs.summary import print_summary, write_summary

_OWN = ("--folds", "--seeds", "--jobs")


@dataclass(frozen=True)
class JobPlan:
    """What is to be run: one job for each fold and seed, and where the results go."""

    command: list[str]
    folder: Path
    jobs: list[Job]
    processes: int | None


def repeat(argv: list[str]) -> int:
    """Run all folds and seeds that are not done yet, show and save the table; return the exit code.

    Raises:
        UsageError: a wrong setting, found before anything was trained.
    """
    plan = plan_jobs(argv)
    plan.folder.mkdir(parents=True, exist_ok=True)
    with _exclusive(plan.folder):
        return _run_plan(plan)


def _run_plan(plan: JobPlan) -> int:
    done, left = _finished(plan.jobs)
    if done:
        print(f"{len(done)} of {len(plan.jobs)} runs are done already in {plan.folder}")
    for job in left:  # what an interrupted run left
        shutil.rmtree(job.folder, ignore_errors=True)
    outcomes = run_jobs(left, plan.processes)
    failures = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
    results, _ = _finished(plan.jobs)
    if results:
        write_summary(plan.folder, plan.command, results, failures)
        print_summary(plan.folder, results)
    for failure in failures:
        print(f"failed: {failure.job.name}: {failure.reason} ({failure.job.folder / 'log.txt'})")
    return 1 if failures else 0


def plan_jobs(argv: list[str]) -> JobPlan:
    """Read `--folds`, `--seeds` and `--jobs`, and lay out the runs.

    Results lie in `<root>/<experiment>-<data set>/<key>`, where the key is made of all settings,
    so that a finished run is found again by the same settings and by no others.

    Raises:
        UsageError: a number that is none, or a seed or fold given besides.
    """
    pairs = split_options(argv[1:])
    given = {option: value for option, value in pairs if option in _OWN}
    rest = [(option, value) for option, value in pairs if option not in _OWN]
    arguments = [word for pair in rest for word in pair if word is not None]
    for option, _ in rest:
        if option in ("--ckpt", "--seed_everything"):
            raise UsageError(f"{option} makes no sense with --folds or --seeds: leave it out")
    command = read_command([argv[0], *arguments])
    names = [
        Path(v).stem for o, v in split_options(command.arguments) if o in ("-c", "--config") and v
    ]
    folder = _root(rest) / ("-".join(names) or "fit") / _key(command.arguments)
    folds = [None] if "--folds" not in given else range(_count("--folds", given["--folds"]))
    seeds = range(_count("--seeds", given.get("--seeds", "1")))
    jobs = [
        Job(command.arguments, fold, seed, folder / _name(fold, seed))
        for fold, seed in product(folds, seeds)
    ]
    processes = _count("--jobs", given["--jobs"]) if "--jobs" in given else None
    return JobPlan(argv, folder, jobs, processes)


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """Keep a second command out of the folder, where the system can (not on Windows)."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"another command is at work in {folder}: wait for it") from None
        yield


def _finished(jobs: Sequence[Job]) -> tuple[list[dict[str, Any]], list[Job]]:
    """The results of the jobs that have one, and the other jobs."""
    done, left = [], []
    for job in jobs:
        file = job.folder / RESULT
        if file.is_file():
            done.append(json.loads(file.read_text(encoding="utf-8")))
        else:
            left.append(job)
    return done, left


def _root(pairs: list[tuple[str, str | None]]) -> Path:
    given = dict(pairs).get("--trainer.default_root_dir")
    return Path(given or "runs")


def _key(arguments: list[str]) -> str:
    """A name for settings: configuration files count by what is in them."""
    parts: list[str] = []
    for option, value in split_options(arguments):
        is_file = option in ("-c", "--config") and value is not None
        text = Path(value).read_text(encoding="utf-8") if is_file and value else value
        parts += [option, text or ""]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:8]


def _name(fold: int | None, seed: int) -> str:
    return f"seed{seed}" if fold is None else f"fold{fold}-seed{seed}"


def _count(option: str, value: str | None) -> int:
    if value is None or not value.isdecimal() or int(value) < 1:
        raise UsageError(f"{option} needs a whole number from 1 up, got {value!r}")
    return int(value)
