"""Many runs by one command: every fold and seed, resumed, repeated to the bit, nothing lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean, stdev

import pytest
import torch

from graphformer.cli import main
from graphformer.cli.many_runs import repeat
from graphformer.cli.many_runs.summary import summarize, write_summary

COMMAND = "import sys; from graphformer.cli import main; sys.exit(main(sys.argv[1:]))"
FAILING = """\
import graphformer.data


class Broken(graphformer.data.Digits):
    \"\"\"Digits that cannot be read with one seed.\"\"\"

    def setup(self, stage=None):
        import os

        if os.environ["PL_GLOBAL_SEED"] == "1":
            raise ZeroDivisionError("no digits with this seed")
        super().setup(stage)
"""


def run_folder(workplace: Path, name: str = "tiny") -> Path:
    (folder,) = (workplace / "runs" / name).iterdir()
    return folder


def test_all_seeds_run_once_and_the_table_is_saved(
    workplace: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["fit", "-c", "tiny.yaml", "--jobs", "1", "--trainer.max_epochs", "1"]
    assert main([*arguments, "--seeds", "2"]) == 0
    shown = capfd.readouterr().out
    assert "[2/2] seed1: " in shown
    assert "test/accuracy" in shown
    folder = run_folder(workplace)
    stored = json.loads((folder / "results.json").read_text())
    values = [run["metrics"]["test/accuracy"] for run in stored["runs"]]
    assert [run["seed"] for run in stored["runs"]] == [0, 1]
    assert values[0] != values[1]
    assert stored["summary"]["test/accuracy"]["mean"] == pytest.approx(mean(values))
    assert stored["summary"]["test/accuracy"]["deviation"] == pytest.approx(stdev(values))
    assert stored["versions"]["torch"]
    assert "--seeds 2" in stored["command"]
    assert "| test/accuracy | " in (folder / "results.md").read_text()
    for seed in (0, 1):
        names = {file.name for file in (folder / f"seed{seed}").iterdir()}
        assert {"config.yaml", "metrics.csv", "log.txt", "result.json", "checkpoints"} <= names

    # The same settings: finished runs are read, only the new one is trained.
    before = (folder / "seed0" / "result.json").stat().st_mtime_ns
    (folder / "seed1" / "result.json").unlink()  # as if it had been interrupted
    first = stored["runs"][1]["metrics"]
    assert main([*arguments, "--seeds", "2"]) == 0
    assert "1 of 2 runs are already finished" in capfd.readouterr().out
    assert (folder / "seed0" / "result.json").stat().st_mtime_ns == before
    again = json.loads((folder / "seed1" / "result.json").read_text())["metrics"]
    assert again == first  # a repeated run gives the same bits

    # The test metrics are those of the best checkpoint.
    assert main(["test", "--ckpt", str(folder / "seed1")]) == 0
    assert f"{first['test/accuracy']:.4f}" in capfd.readouterr().out


@pytest.mark.slow
def test_seeds_in_parallel_have_the_weights_of_single_runs(workplace: Path) -> None:
    settings = ["fit", "-c", "tiny.yaml", "--trainer.max_epochs", "1"]
    assert main([*settings, "--seeds", "2", "--jobs", "2"]) == 0
    folder = run_folder(workplace)
    for seed in (0, 1):
        root = ["--trainer.default_root_dir", f"single{seed}"]
        assert main([*settings, "--seed_everything", str(seed), *root]) == 0
        (single,) = (workplace / f"single{seed}").rglob("best.ckpt")
        (repeated,) = (folder / f"seed{seed}").rglob("best.ckpt")
        expected, got = (weights(file) for file in (single, repeated))
        assert expected.keys() == got.keys()
        for name, weight in expected.items():
            assert torch.equal(got[name], weight), name


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    return torch.load(checkpoint, weights_only=True)["state_dict"]


@pytest.mark.slow
def test_a_failed_run_is_named_and_the_others_go_on(
    workplace: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (workplace / "broken.py").write_text(FAILING)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(workplace), *sys.path]))
    monkeypatch.syspath_prepend(str(workplace))
    arguments = ["fit", "-c", "tiny.yaml", "--data", "broken.Broken", "--seeds", "3"]
    limits = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "1"]
    assert main([*arguments, *limits, "--jobs", "1"]) == 1
    shown = capfd.readouterr().out
    assert "failed: seed1: ZeroDivisionError: no digits with this seed" in shown
    stored = json.loads((run_folder(workplace) / "results.json").read_text())
    assert [run["seed"] for run in stored["runs"]] == [0, 2]
    assert stored["failed"] == {"seed1": "ZeroDivisionError: no digits with this seed"}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--seeds", "0"], "--seeds: got '0', expected an integer of 1 or more"),
        (["--folds", "x"], "--folds: got 'x', expected an integer"),
        (["--seeds", "2", "--seed_everything", "7"], "--seed_everything cannot be combined"),
    ],
)
def test_wrong_numbers(
    workplace: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str
) -> None:
    assert main(["fit", "-c", "tiny.yaml", *arguments]) == 2
    captured = capsys.readouterr()
    assert expected in captured.err
    assert captured.err.count("\n") == 1


def test_services_are_for_single_runs(workplace: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["fit", "-c", "tiny.yaml", "--seeds", "2", "--jobs", "1"]
    assert main([*arguments, "--trainer.logger", "wandb"]) != 0
    shown = capfd.readouterr()
    assert "trainer.logger: got wandb, expected csv in many runs" in shown.out + shown.err


def test_a_setting_that_is_wrong_for_all_runs_ends_the_command_at_once(
    workplace: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", "-c", "tiny.yaml", "--folds", "3", "--jobs", "1"]) == 2
    assert "Digits has no folds or fixed splits: leave --folds out" in capfd.readouterr().err


def test_two_commands_do_not_share_a_folder(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fcntl = pytest.importorskip("fcntl", reason="there are no such locks on Windows")
    arguments = ["fit", "-c", "tiny.yaml", "--seeds", "2"]
    folder = repeat.plan_jobs(arguments).folder
    folder.mkdir(parents=True)
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert main(arguments) == 2
    assert "another command is running in runs/tiny/" in capsys.readouterr().err


def test_plan_names_runs_and_keeps_settings_apart(workplace: Path) -> None:
    def plan(*arguments: str) -> repeat.JobPlan:
        return repeat.plan_jobs(["fit", "-c", "tiny.yaml", *arguments])

    assert [job.name for job in plan("--folds", "2", "--seeds", "2").jobs] == [
        "fold0-seed0", "fold0-seed1", "fold1-seed0", "fold1-seed1",
    ]  # fmt: skip
    assert plan("--seeds", "2").folder == plan("--seeds", "9", "--jobs=1").folder
    assert plan("--seeds", "2").folder != plan("--seeds", "2", "--model.lr", "1").folder
    before = plan("--seeds", "2").folder
    with (workplace / "tiny.yaml").open("a") as file:
        file.write("# a comment\n")
    assert plan("--seeds", "2").folder == before
    with (workplace / "tiny.yaml").open("a") as file:
        file.write("ckpt_path: null\n")
    assert plan("--seeds", "2").folder != before
    moved = plan("--trainer.default_root_dir", "there").folder
    assert moved == Path("there/tiny") / plan().folder.name  # of the same settings


def test_deviations_over_seeds_and_folds() -> None:
    table = {(0, 0): 1.0, (0, 1): 3.0, (1, 0): 5.0, (1, 1): 9.0}
    runs = [{"fold": f, "seed": s, "metrics": {"m": v}} for (f, s), v in table.items()]
    statistics = summarize(runs)["m"]
    assert statistics["mean"] == 4.5
    assert statistics["deviation"] == pytest.approx(stdev(table.values()))
    assert statistics["over seeds"] == pytest.approx((stdev([1, 3]) + stdev([5, 9])) / 2)
    assert statistics["over folds"] == pytest.approx(stdev([2, 7]))
    assert (statistics["min"], statistics["max"]) == (1, 9)
    alone = summarize(runs[:1])["m"]
    assert alone["deviation"] is alone["over seeds"] is alone["over folds"] is None


def test_summary_of_one_run_has_no_empty_columns(tmp_path: Path) -> None:
    runs = [{"fold": None, "seed": 0, "metrics": {"m": 0.5}, "seconds": 1.0}]
    write_summary(tmp_path, ["fit"], runs)
    assert "| metric | mean | min | max |" in (tmp_path / "results.md").read_text()


def children(parent: int) -> list[int]:
    text = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(parent)], capture_output=True, text=True, check=False
    ).stdout
    return [int(word) for word in text.split()]


def gone(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status")
    return not status.exists() or "State:\tZ" in status.read_text()


def hear_ctrl_c() -> None:
    """Undo what shells do to jobs in the background, whose children too ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at processes as Linux shows them")
@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)]
)
def test_no_process_outlives_the_command(workplace: Path, number: signal.Signals) -> None:
    arguments = ["fit", "-c", "tiny.yaml", "--seeds", "2", "--jobs", "1"]
    limits = ["--trainer.max_epochs", "100000", "--trainer.max_time", "00:00:03:00"]
    command = [sys.executable, "-c", COMMAND, *arguments, *limits]
    parent = subprocess.Popen(
        command, start_new_session=True, stdout=subprocess.DEVNULL, preexec_fn=hear_ctrl_c
    )
    try:
        deadline = time.monotonic() + 120
        while not list(workplace.glob("runs/tiny/*/seed0/metrics.csv")):
            assert parent.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        workers = children(parent.pid)
        assert workers
        os.killpg(parent.pid, number) if number == signal.SIGINT else parent.send_signal(number)
        code = parent.wait(60)
        assert code == (130 if number == signal.SIGINT else -signal.SIGKILL)
        while not all(gone(worker) for worker in workers):
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        if parent.poll() is None:
            os.killpg(parent.pid, signal.SIGKILL)
