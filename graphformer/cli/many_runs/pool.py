"""Processes that train: as many as cores and memory allow, none of which outlives the command."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from graphformer.cli.errors import UsageError
from graphformer.cli.many_runs.job import Job

_MARGIN = 1.25  # of the largest process so far, before another one is started


@dataclass(frozen=True)
class Success:
    """A run that ended well; its results lie in its folder."""

    job: Job


@dataclass(frozen=True)
class Failure:
    """A run that did not, and why."""

    job: Job
    reason: str


def _work(connection: Connection, threads: int) -> None:
    """What a process does: only there is torch imported."""
    from graphformer.cli.many_runs.worker import work

    work(connection, threads)


class Worker:
    """A process that trains one job after another, and the job that it has."""

    def __init__(self, threads: int) -> None:
        context = get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, threads), daemon=True)
        self.process.start()
        theirs.close()
        self.job: Job | None = None

    def send(self, job: Job) -> None:
        """Send it a job."""
        self.job = job
        self.connection.send(job)

    def kill(self) -> None:
        """End the process at once: what it writes is there whole or not at all."""
        self.process.kill()
        self.process.join()
        self.connection.close()


def run_jobs(jobs: Sequence[Job], processes: int | None = None) -> list[Success | Failure]:
    """Train all jobs, and go on where one fails.

    Args:
        jobs: what to train.
        processes: how many at a time; by default one a core, while memory has room for one more.

    Raises:
        UsageError: a job was refused before anything was trained, as all of them would be.
        KeyboardInterrupt: after Ctrl-C, when all processes are gone.
    """
    most = min(len(jobs), processes or _cores())
    if not jobs:
        return []
    threads = max(1, _cores() // most)
    with _environment(threads), _Display(len(jobs)) as display:
        pool = _Pool(list(jobs), most, threads, display, cautious=processes is None)
        try:
            pool.run()
        finally:
            for worker in pool.workers:
                worker.kill()
    return pool.outcomes


class _Pool:
    def __init__(
        self, waiting: list[Job], most: int, threads: int, display: _Display, *, cautious: bool
    ) -> None:
        self.waiting, self.most, self.threads, self.display = waiting, most, threads, display
        self.cautious = cautious
        self.workers: list[Worker] = []
        self.outcomes: list[Success | Failure] = []
        self.largest = 0  # bytes of the largest process so far
        self.trained = False  # whether any job came as far as training

    def run(self) -> None:
        while self.waiting or any(worker.job for worker in self.workers):
            self._start_workers()
            ready = wait([worker.connection for worker in self.workers])
            for worker in [w for w in self.workers if w.connection in ready]:
                try:
                    self._handle_message(worker, *worker.connection.recv())
                except (EOFError, OSError):  # the process is gone
                    self._remove_worker(worker)

    def _start_workers(self) -> None:
        """Start processes up to the limit, and give a job to each that has none."""
        while self.waiting:
            idle = next((worker for worker in self.workers if worker.job is None), None)
            if idle is None:
                if len(self.workers) >= self.most or (self.workers and not self._has_room()):
                    return
                idle = Worker(self.threads)
                self.workers.append(idle)
            idle.send(self.waiting.pop(0))
            assert idle.job is not None
            self.display.start(idle.job)

    def _has_room(self) -> bool:
        if not self.cautious:
            return True
        free = free_memory()
        return self.largest > 0 and (free is None or free > _MARGIN * self.largest)

    def _handle_message(self, worker: Worker, kind: str, told: Any) -> None:
        """Heed what a process says of its job: "progress", "done" or "refused"."""
        job = worker.job
        assert job is not None
        if kind == "progress":
            self.trained = True
            self.largest = max(self.largest, told["memory"])
            self.display.update(job, told)
            return
        worker.job = None
        if kind == "done":
            self._end(Success(job), told)
        elif self.trained or self.outcomes:
            self._end(Failure(job, told))
        else:
            raise UsageError(told)

    def _remove_worker(self, worker: Worker) -> None:
        """Note that a process died, and what it last said; another one takes its place."""
        worker.kill()
        self.workers.remove(worker)
        assert worker.job is not None
        self._end(Failure(worker.job, _failure_reason(worker.job, worker.process.exitcode)))

    def _end(self, outcome: Success | Failure, metrics: dict[str, float] | None = None) -> None:
        self.outcomes.append(outcome)
        self.display.end(outcome, metrics or {})


class _Display:
    """A bar for all runs and one for each that is going; a line a run where there is no screen."""

    def __init__(self, total: int) -> None:
        self.console = Console()
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.total = total
        self.ended = 0
        self.all = self.progress.add_task("runs", total=total, note="")
        self.bars: dict[str, Any] = {}
        self.started: dict[str, float] = {}

    def __enter__(self) -> _Display:
        self.progress.start()
        return self

    def __exit__(self, *args: object) -> None:
        self.progress.stop()

    def start(self, job: Job) -> None:
        self.bars[job.name] = self.progress.add_task(job.name, total=None, note="starts")
        self.started[job.name] = time.monotonic()

    def update(self, job: Job, told: dict[str, Any]) -> None:
        self.progress.update(
            self.bars[job.name], completed=told["done"], total=told["total"], note=told["note"]
        )

    def end(self, outcome: Success | Failure, metrics: dict[str, float]) -> None:
        self.ended += 1
        job = outcome.job
        self.progress.remove_task(self.bars.pop(job.name))
        self.progress.update(self.all, completed=self.ended)
        seconds = time.monotonic() - self.started[job.name]
        told = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        told = f"failed: {outcome.reason}" if isinstance(outcome, Failure) else told
        count = f"[{self.ended}/{self.total}]"
        self.progress.console.print(
            f"{count} {job.name}: {told}, {seconds:.0f} s", markup=False, soft_wrap=True
        )


@contextmanager
def _environment(threads: int) -> Iterator[None]:
    """Let the processes begin with so many threads each, and without spinning ones."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
    wanted = {**dict.fromkeys(names, str(threads)), "OMP_WAIT_POLICY": "PASSIVE"}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def free_memory() -> int | None:
    """The bytes that could be had without swapping, where the system says (Linux)."""
    file = Path("/proc/meminfo")
    if not file.is_file():
        return None
    lines = dict(line.split(":", 1) for line in file.read_text().splitlines())
    return int(lines["MemAvailable"].split()[0]) * 1024


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _failure_reason(job: Job, code: int | None) -> str:
    log = job.folder / "log.txt"
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    told = [line.strip() for line in lines if line.strip()]
    if code is not None and code < 0:
        return f"the process was ended by signal {-code}" + (", out of memory?" * (code == -9))
    return told[-1] if told else f"the process ended with code {code}"
