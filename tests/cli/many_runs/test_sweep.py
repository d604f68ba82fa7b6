"""`graphformer sweep`: grids, samplers, pruning, resumed and shared studies."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphformer.cli import main
from graphformer.cli.many_runs.study import open_storage, sqlite_url

optuna = pytest.importorskip("optuna")
SHORT = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2"]
BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


@pytest.mark.slow
def test_a_grid_is_trained_once_and_equals_single_runs(
    workplace: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    search = "{model.lr: [0.01, 0.02], model.adjacency: [Complete]}"
    line = ["sweep", "-c", "tiny.yaml", "--search", search, "--sampler", "grid", "--jobs", "1"]
    assert main([*line, *SHORT]) == 0
    shown = capfd.readouterr().out
    assert "[2/2] trial1: test/loss" in shown
    assert "best val/loss" in shown
    (folder,) = (workplace / "runs").iterdir()
    results = [json.loads((folder / f"trial{n}/result.json").read_text()) for n in (0, 1)]
    assert results[0]["metrics"] != results[1]["metrics"]
    assert main([*line, *SHORT]) == 0  # nothing is left
    study = optuna.load_study(study_name=folder.name, storage=sqlite_url(folder / "study.db"))
    assert [trial.params["model.lr"] for trial in study.trials] == [0.01, 0.02]
    single = ["fit", "-c", "tiny.yaml", "--model.lr", "0.02", *SHORT]
    assert main(single) == 0
    (run,) = (workplace / "runs" / "tiny").iterdir()
    capfd.readouterr()
    assert main(["test", "--ckpt", str(run)]) == 0
    assert f"{results[1]['metrics']['test/loss']:.4f}" in capfd.readouterr().out
    capfd.readouterr()
    assert main(["runs", str(folder), "--sort", "val/loss"]) == 0
    assert "model.lr" in capfd.readouterr().out


@pytest.mark.slow
def test_pruning_by_the_validation_metric(
    workplace: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    search = "{model.lr: [1.0e-9, 0.02]}"  # the first five runs of a median are never pruned
    line = ["sweep", "-c", "tiny.yaml", "--search", search, "--sampler", "random", "--trials", "9"]
    more = ["--pruner", "median", "--monitor", "val/accuracy", "--jobs", "1", *SHORT]
    assert main([*line, *more, "--trainer.max_epochs", "2"]) == 0
    shown = capfd.readouterr().out
    assert "best val/accuracy" in shown
    assert "9/9" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-c", "tiny.yaml"], "--search: expected '{setting: [a, b]}' or a YAML file"),
        ([], "sweep: expected -c and --search, or --storage and --study to join one"),
        (["-c", "tiny.yaml", "--seeds", "2"], "--seeds cannot be combined with sweep"),
        (["--storage", "nothing", "--study", "x"], "--storage: got 'nothing', which cannot be"),
        (["--storage", "sqlite:///a.db", "--study", "x"], "--study: got 'x', which is not in"),
        (["-c", "tiny.yaml", "--search", "{a: [1]}", "--trials", "0"], "--trials: got 0"),
    ],
)
def test_wrong_lines(
    workplace: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["sweep", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[str]:
    """The URL of a PostgreSQL server in a temporary folder."""
    pytest.importorskip("psycopg", reason='needs the extra "postgres"')
    if not BINARIES:
        pytest.skip("needs a PostgreSQL server, such as Debian's package postgresql")
    folder = Path("/tmp") / f"graphformer-postgres-{os.getpid()}"  # sockets need a short path
    folder.mkdir(mode=0o777)
    user = {"user": "postgres"} if os.geteuid() == 0 else {}  # the server refuses root
    if user:
        shutil.chown(folder, "postgres")
    data, port = folder / "data", "5433"
    control = [str(BINARIES[-1] / "pg_ctl"), "-D", str(data), "-w"]
    options = f"-c listen_addresses='' -k {folder} -p {port}"
    quiet = {"check": True, "stdout": subprocess.DEVNULL, "cwd": folder}
    initdb = [str(BINARIES[-1] / "initdb"), "-D", str(data), "-U", "sweep", "-A", "trust"]
    subprocess.run(initdb, **quiet, **user)
    start = [*control, "-o", options, "-l", str(folder / "log"), "start"]
    subprocess.run(start, **quiet, **user)
    try:
        yield f"postgresql+psycopg://sweep@/postgres?host={folder}&port={port}"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], **quiet, **user)
        shutil.rmtree(folder)


@pytest.mark.slow
def test_two_workers_share_a_postgresql_study_and_one_is_killed(
    workplace: Path, postgres: str
) -> None:
    search = "{seed_everything: [2, 3, 5, 7]}"
    limits = ["--trainer.max_epochs", "20"]
    command = [sys.executable, "-m", "graphformer", "sweep", "--jobs", "1"]
    shared = ["--storage", postgres, "--study", "shared"]
    line = ["-c", "tiny.yaml", "--search", search, "--sampler", "grid", *limits]
    first = subprocess.Popen([*command, *shared, *line], start_new_session=True)
    storage = open_storage(postgres)
    deadline = time.monotonic() + 300

    def running() -> list[object]:
        try:
            study = optuna.load_study(study_name="shared", storage=storage)
        except KeyError:
            return []
        return [t for t in study.trials if t.state.name == "RUNNING" and "started" in t.user_attrs]

    while not running():
        assert first.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    (lost,) = (trial.number for trial in running())  # not before: the trial may end meanwhile
    second = subprocess.run([*command, *shared], check=False, timeout=500)
    assert second.returncode == 0
    trials = optuna.load_study(study_name="shared", storage=storage).trials
    assert trials[lost].state.name == "FAIL"
    done = [t.params["seed_everything"] for t in trials if t.state.name == "COMPLETE"]
    assert sorted(done) == [2, 3, 5, 7]
    assert [t.number for t in trials if t.state.name == "FAIL"] == [lost]
