"""Local worker processes of a study, limited by cores and memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING

from graphformer.cli.errors import UsageError
from graphformer.cli.many_runs.display import Display
from graphformer.cli.many_runs.study import (
    REFUSED,
    STARTED,
    has_waiting,
    num_begun,
    return_to_queue,
    running_on,
)

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess as Process

    from optuna import Study
    from optuna.trial import FrozenTrial

    from graphformer.cli.many_runs.job import WorkerOptions

_MEMORY_MARGIN = 1.25  # free memory needed for one more process, relative to the largest so far
_POLL = 0.3  # seconds between looks at the study
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"
)  # fmt: skip


def _work(options: WorkerOptions) -> None:
    """Body of a process; torch is imported here, not in the parent."""
    from graphformer.cli.many_runs.worker import work

    work(options)


def make_process(options: WorkerOptions) -> Process:
    """Start a worker process."""
    process = get_context("spawn").Process(target=_work, args=(options,), daemon=True)
    process.start()
    return process


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_workers(
    study: Study, options: WorkerOptions, total: int, processes: int | None
) -> dict[str, str]:
    """Train the trials of a study in parallel, and return name -> reason of the failed ones.

    Args:
        study: with its trials in the queue, or a number of trials to reach.
        options: of the workers.
        total: number of trials that this command waits for at most.
        processes: number of processes; None for as many as cores and memory allow.

    Raises:
        UsageError: when a trial is refused before any trial has trained.
        KeyboardInterrupt: after Ctrl-C, when all processes have ended and their trials are queued.
    """
    num_workers = min(total, processes or available_cores())
    with _environment(options.threads), Display(study, total) as display:
        pool = _Pool(study, options, num_workers, display, check_memory=processes is None)
        try:
            pool.run()
        finally:
            pool.close()
        for _ in range(2):  # the second call shows deferred trials
            display.update()
    return display.failures


class _Pool:
    """State of `run_workers`."""

    def __init__(
        self,
        study: Study,
        options: WorkerOptions,
        num_workers: int,
        display: Display,
        *,
        check_memory: bool,
    ) -> None:
        self.study, self.options, self.num_workers = study, options, num_workers
        self.display, self.check_memory = display, check_memory
        self.first = display.first  # number of the first trial of this command
        self.processes: list[Process] = []
        self.peak_memory = 0  # bytes of the largest process so far

    def run(self) -> None:
        while self._has_work() or self.processes:
            self._start_processes()
            wait([process.sentinel for process in self.processes], timeout=_POLL)
            for process in [p for p in self.processes if p.exitcode is not None]:
                self._remove(process)
            self._raise_refusal()
            self.display.update()

    def close(self) -> None:
        """End all processes at once, and queue their trials; the files they write are atomic."""
        for process in self.processes:
            process.kill()
            process.join()
            for trial in running_on(self.study, process.pid):
                return_to_queue(self.study, trial.number)

    def _has_work(self) -> bool:
        return has_waiting(self.study) or num_begun(self.study) < self.study.user_attrs["trials"]

    def _start_processes(self) -> None:
        """Start one process, if there are trials, cores and memory for it."""
        while len(self.processes) < self.num_workers and self._has_work() and self._has_memory():
            self.processes.append(make_process(self.options))

    def _has_memory(self) -> bool:
        """Whether another process fits; unknown, and so False, until the first has trained."""
        if not self.check_memory or not self.processes:
            return True
        if not any(STARTED in trial.user_attrs for trial in self._own_trials()):
            return False
        peaks = [peak_memory(process.pid) for process in self.processes]
        self.peak_memory = max([self.peak_memory, *peaks])
        free = free_memory()
        return free is None or free > _MEMORY_MARGIN * self.peak_memory

    def _own_trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)[self.first :]

    def _remove(self, process: Process) -> None:
        """Queue the trial of a process that has died."""
        process.join()
        self.processes.remove(process)
        for trial in running_on(self.study, process.pid):
            self.display.reasons[trial.number] = _reason(process.exitcode)
            return_to_queue(self.study, trial.number)

    def _raise_refusal(self) -> None:
        """Raise the refusal of a trial, if none has trained: the others would be refused too."""
        trials = self._own_trials()
        refused = [trial.user_attrs[REFUSED] for trial in trials if REFUSED in trial.user_attrs]
        if refused and not any(STARTED in trial.user_attrs for trial in trials):
            raise UsageError(refused[0])


def _reason(code: int | None) -> str:
    if code is not None and code < 0:
        return f"the process was ended by signal {-code}" + (", out of memory?" * (code == -9))
    return f"the process ended with code {code}"


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
    return _kilobytes(Path("/proc/meminfo"), "MemAvailable")


def peak_memory(pid: int | None) -> int:
    """Return the most bytes that a process has used so far; 0 where unknown."""
    return _kilobytes(Path(f"/proc/{pid}/status"), "VmHWM") or 0


def _kilobytes(file: Path, name: str) -> int | None:
    """Return a field of a file below /proc in bytes."""
    try:
        lines = dict(line.split(":", 1) for line in file.read_text().splitlines() if ":" in line)
        return int(lines[name].split()[0]) * 1024
    except (OSError, KeyError):  # not Linux, or the process has just ended
        return None
