"""A pool of training processes, limited by cores and memory."""

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

_MEMORY_MARGIN = 1.25  # free memory needed for one more process, relative to the largest so far
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"
)  # fmt: skip


@dataclass(frozen=True)
class Success:
    """A job that is finished; its results are in its folder."""

    job: Job


@dataclass(frozen=True)
class Failure:
    """A job that failed, and the reason."""

    job: Job
    reason: str


def _work(connection: Connection, threads: int) -> None:
    """Body of a process; torch is imported here, not in the parent."""
    from graphformer.cli.many_runs.worker import work

    work(connection, threads)


class Worker:
    """A process that trains one job after another.

    Attributes:
        connection: the parent's end of the pipe.
        process: the process.
        job: the job that is being trained; None between jobs.
    """

    def __init__(self, threads: int) -> None:
        context = get_context("spawn")
        self.connection, child_connection = context.Pipe()
        self.process = context.Process(target=_work, args=(child_connection, threads), daemon=True)
        self.process.start()
        child_connection.close()
        self.job: Job | None = None

    def send(self, job: Job) -> None:
        """Start a job."""
        self.job = job
        self.connection.send(job)

    def kill(self) -> None:
        """End the process at once; the files that it writes are complete or absent."""
        self.process.kill()
        self.process.join()
        self.connection.close()


def run_jobs(jobs: Sequence[Job], processes: int | None = None) -> list[Success | Failure]:
    """Train all jobs in parallel; a failed job does not end the others.

    Args:
        jobs: what to train.
        processes: number of processes; by default one per core, as far as memory allows.

    Raises:
        UsageError: when a job is refused before any job has trained.
        KeyboardInterrupt: after Ctrl-C, when all processes have ended.
    """
    num_workers = min(len(jobs), processes or _available_cores())
    if not jobs:
        return []
    threads = max(1, _available_cores() // num_workers)
    with _environment(threads), _Display(len(jobs)) as display:
        pool = _Pool(jobs, num_workers, threads, display, check_memory=processes is None)
        try:
            pool.run()
        finally:
            for worker in pool.workers:
                worker.kill()
    return pool.outcomes


class _Pool:
    """State of `run_jobs`: waiting jobs, workers and outcomes."""

    def __init__(
        self,
        jobs: Sequence[Job],
        num_workers: int,
        threads: int,
        display: _Display,
        *,
        check_memory: bool,
    ) -> None:
        self.waiting, self.num_workers, self.threads = list(jobs), num_workers, threads
        self.display, self.check_memory = display, check_memory
        self.workers: list[Worker] = []
        self.outcomes: list[Success | Failure] = []
        self.peak_memory = 0  # bytes of the largest process so far
        self.has_trained = False  # whether any job has reached its training loop

    def run(self) -> None:
        while self.waiting or any(worker.job for worker in self.workers):
            self._start_workers()
            ready = wait([worker.connection for worker in self.workers])
            for worker in [w for w in self.workers if w.connection in ready]:
                try:
                    self._handle_message(worker, *worker.connection.recv())
                except (EOFError, OSError):  # the process has died
                    self._remove_worker(worker)

    def _start_workers(self) -> None:
        """Send waiting jobs to idle workers, and start workers up to the limit."""
        while self.waiting:
            idle = next((worker for worker in self.workers if worker.job is None), None)
            if idle is None:
                if len(self.workers) >= self.num_workers or not self._has_memory():
                    return
                idle = Worker(self.threads)
                self.workers.append(idle)
            job = self.waiting.pop(0)
            idle.send(job)
            self.display.start(job)

    def _has_memory(self) -> bool:
        """Whether another process fits; unknown, and so False, until the first has trained."""
        if not self.check_memory or not self.workers:
            return True
        free = free_memory()
        return self.peak_memory > 0 and (free is None or free > _MEMORY_MARGIN * self.peak_memory)

    def _handle_message(self, worker: Worker, kind: str, content: Any) -> None:
        """Process a worker's message: "progress", "done" or "refused"."""
        job = worker.job
        assert job is not None
        if kind == "progress":
            self.has_trained = True
            self.peak_memory = max(self.peak_memory, content["memory"])
            self.display.update(job, content)
            return
        worker.job = None
        if kind == "done":
            self._end(Success(job), content)
        elif self.has_trained or self.outcomes:
            self._end(Failure(job, content))
        else:  # all other jobs would be refused for the same reason
            raise UsageError(content)

    def _remove_worker(self, worker: Worker) -> None:
        """Record the failure of a worker whose process has died."""
        worker.kill()
        self.workers.remove(worker)
        assert worker.job is not None
        self._end(Failure(worker.job, _failure_reason(worker.job, worker.process.exitcode)))

    def _end(self, outcome: Success | Failure, metrics: dict[str, float] | None = None) -> None:
        self.outcomes.append(outcome)
        self.display.end(outcome, metrics or {})


class _Display:
    """A progress bar for all jobs and one per running job; one line per job without a terminal."""

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
        self.total, self.num_ended = total, 0
        self.total_bar = self.progress.add_task("runs", total=total, note="")
        self.bars: dict[str, Any] = {}
        self.start_times: dict[str, float] = {}

    def __enter__(self) -> _Display:
        self.progress.start()
        return self

    def __exit__(self, *args: object) -> None:
        self.progress.stop()

    def start(self, job: Job) -> None:
        self.bars[job.name] = self.progress.add_task(job.name, total=None, note="starts")
        self.start_times[job.name] = time.monotonic()

    def update(self, job: Job, report: dict[str, Any]) -> None:
        self.progress.update(
            self.bars[job.name],
            completed=report["done"],
            total=report["total"],
            note=report["note"],
        )

    def end(self, outcome: Success | Failure, metrics: dict[str, float]) -> None:
        self.num_ended += 1
        job = outcome.job
        self.progress.remove_task(self.bars.pop(job.name))
        self.progress.update(self.total_bar, completed=self.num_ended)
        seconds = time.monotonic() - self.start_times[job.name]
        result = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        if isinstance(outcome, Failure):
            result = f"failed: {outcome.reason}"
        count = f"[{self.num_ended}/{self.total}]"
        self.progress.console.print(
            f"{count} {job.name}: {result}, {seconds:.0f} s", markup=False, soft_wrap=True
        )


@contextmanager
def _environment(threads: int) -> Iterator[None]:
    """Set the number of threads of child processes, and let idle threads sleep."""
    variables = {
        **dict.fromkeys(_THREAD_VARIABLES, str(threads)),
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    previous = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in previous.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def free_memory() -> int | None:
    """Return the number of bytes available without swapping; None where unknown (not Linux)."""
    file = Path("/proc/meminfo")
    if not file.is_file():
        return None
    lines = dict(line.split(":", 1) for line in file.read_text().splitlines())
    return int(lines["MemAvailable"].split()[0]) * 1024


def _available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _failure_reason(job: Job, code: int | None) -> str:
    """Return the signal that ended a process, or else the last line of its log."""
    if code is not None and code < 0:
        return f"the process was ended by signal {-code}" + (", out of memory?" * (code == -9))
    log = job.folder / "log.txt"
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    texts = [line.strip() for line in lines if line.strip()]
    return texts[-1] if texts else f"the process ended with code {code}"
