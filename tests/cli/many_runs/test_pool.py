"""Worker processes: no more than memory has room for, and trials of the dead are queued again."""

from __future__ import annotations

from multiprocessing import Pipe
from pathlib import Path
from types import SimpleNamespace

import pytest

from graphformer.cli.many_runs import pool
from graphformer.cli.many_runs.job import WorkerOptions
from graphformer.cli.many_runs.study import (
    NAME,
    RESULT,
    STARTED,
    WORKER,
    create_study,
    enqueue,
    num_begun,
    num_ended,
    return_to_queue,
    sqlite_url,
    worker_name,
)

# The workers of these tests take trials by `ask`, outside of `Study.optimize`.
pytestmark = pytest.mark.filterwarnings("ignore:Heartbeat of storage")


optuna = pytest.importorskip("optuna")


class FakeProcesses:
    """Starts "processes" that take one trial each, and then all waiting ones."""

    def __init__(self, study: object, exit_codes: list[int]) -> None:
        self.study, self.exit_codes = study, exit_codes
        self.made = 0

    def __call__(self, options: WorkerOptions) -> SimpleNamespace:
        self.made += 1
        reader, writer = Pipe()
        pid = -self.made
        code = self.exit_codes.pop(0) if self.exit_codes else 0
        trial = self.study.ask()
        trial.set_user_attr(NAME, f"seed{trial.suggest_int('seed', 0, 99)}")
        trial.set_user_attr(WORKER, worker_name(pid))
        trial.set_user_attr(STARTED, True)
        if code == 0:
            trial.set_user_attr(RESULT, {"metrics": {"m": 1.0}})
            self.study.tell(trial, 1.0)
        writer.close()  # the sentinel is ready
        return SimpleNamespace(
            pid=pid, sentinel=reader, exitcode=code, join=lambda: None, kill=lambda: None
        )


def make_study(folder: Path, trials: int) -> object:
    study = create_study(sqlite_url(folder / "study.db"), "fit", {})
    enqueue(study, [{"seed": seed} for seed in range(trials)])
    study.set_user_attr("trials", num_begun(study))
    return study


@pytest.mark.parametrize(("free", "at_once"), [(10**6, 3), (1100, 1), (None, 3)])
def test_no_more_processes_than_memory_has_room_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int | None, at_once: int
) -> None:
    study = make_study(tmp_path, 5)
    fake = FakeProcesses(study, [])
    monkeypatch.setattr(pool, "make_process", fake)
    monkeypatch.setattr(pool, "available_cores", lambda: 3)
    monkeypatch.setattr(pool, "free_memory", lambda: free)
    monkeypatch.setattr(pool, "peak_memory", lambda pid: 1000)
    counts = []
    wait = pool.wait
    monkeypatch.setattr(
        pool, "wait", lambda sentinels, timeout: counts.append(len(sentinels)) or wait([], 0)
    )
    options = WorkerOptions("", "fit", tmp_path, 1)
    assert pool.run_workers(study, options, 5, None) == {}
    assert max(counts) == at_once
    assert all(trial.state.name == "COMPLETE" for trial in study.trials)


def test_the_trial_of_a_killed_process_alone_is_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = make_study(tmp_path, 3)
    monkeypatch.setattr(pool, "make_process", FakeProcesses(study, [0, -9, 0]))
    assert pool.run_workers(study, WorkerOptions("", "fit", tmp_path, 1), 3, 1) == {}
    states = [(trial.params["seed"], trial.state.name) for trial in study.trials]
    assert states == [(0, "COMPLETE"), (1, "FAIL"), (2, "COMPLETE"), (1, "COMPLETE")]
    shown = capsys.readouterr().out
    assert "seed1: failed: the process was ended by signal 9, out of memory?, queued" in shown
    assert shown.count("[3/3]") == 1


def test_an_interrupted_trial_has_not_ended(tmp_path: Path) -> None:
    study = make_study(tmp_path, 3)
    study.tell(study.ask(), 1.0)
    return_to_queue(study, study.ask().number)
    assert [trial.state.name for trial in study.trials] == [
        "COMPLETE", "FAIL", "WAITING", "WAITING"
    ]  # fmt: skip
    assert (num_begun(study), num_ended(study)) == (3, 1)


def test_a_trial_whose_processes_always_die_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = make_study(tmp_path, 1)
    monkeypatch.setattr(pool, "make_process", FakeProcesses(study, [1] * 9))
    failures = pool.run_workers(study, WorkerOptions("", "fit", tmp_path, 1), 1, 1)
    assert failures == {"seed0": "the process ended with code 1"}
    assert len(study.trials) == 3
