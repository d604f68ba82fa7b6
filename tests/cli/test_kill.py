"""Runs that are killed at random points, resumed, and equal to a run that was not."""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import yaml
from helpers.runs import EXPERIMENT, TEXT

from graphformer.cli import main

KILLS = 10
LIMITS = ["--trainer.max_epochs", "40", "--trainer.limit_train_batches", "7"]
TEXTS = {
    "model": {
        "class_path": "LanguageModeling",
        "init_args": {
            "network": {
                "class_path": "graphformer.models.language_model",
                "init_args": {"dim": 16, "depth": 1, "num_heads": 2, "max_length": 17},
            },
            "adjacency": "Causal",
        },
    },
    "data": {
        "class_path": "TextFile",
        "init_args": {"path": "text.txt", "block_size": 17, "steps_per_epoch": 7},
    },
    "trainer": {"accumulate_grad_batches": 3, "val_check_interval": 3},
}
GRAPHS = {
    "model": {
        "class_path": "Classification",
        "init_args": {
            "network": {
                "class_path": "graphformer.models.gat",
                "init_args": {"dim": 5, "dropout": 0.2},
            },
            "adjacency": "Edges",
            "level": "node",
        },
    },
    "data": {
        "class_path": "RingTransfer",
        "init_args": {"num_nodes": 5, "train_size": 64, "test_size": 16, "batch_size": 8},
    },
}
EXPERIMENTS = {
    "text": yaml.safe_dump(TEXTS), "image": EXPERIMENT, "graph": yaml.safe_dump(GRAPHS)
}  # fmt: skip


def command(arguments: Sequence[str]) -> None:
    """Run the command in a new process, quietly."""
    torch.set_num_threads(1)
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(null, stream)
    raise SystemExit(main(list(arguments)))


def checkpoints(home: Path) -> dict[Path, int]:
    """The last checkpoint of every run, and when it was written."""
    return {f: f.stat().st_mtime_ns for f in home.glob("runs/*/*/checkpoints/last.ckpt")}


def start(arguments: list[str]) -> multiprocessing.context.ForkServerProcess:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["graphformer.cli.commands.fit"])
    process = context.Process(target=command, args=(arguments,))
    process.start()
    return process


def run_and_kill(home: Path, arguments: list[str], rng: random.Random) -> int | None:
    """Kill a run, most often after its first checkpoint; return the exit code if it ended first."""
    before, deadline = checkpoints(home), time.monotonic() + 120
    process = start(arguments)
    waits = rng.random() < 0.8
    while waits and process.is_alive() and checkpoints(home) == before:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.join(rng.uniform(0, 0.4))
    code = process.exitcode
    process.kill()
    process.join()
    return code


@pytest.mark.slow
@pytest.mark.parametrize("kind", EXPERIMENTS)
def test_a_killed_run_is_resumed_to_the_same_weights(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT)
    (tmp_path / f"{kind}.yaml").write_text(EXPERIMENTS[kind])
    arguments = ["fit", "-c", f"{kind}.yaml", *LIMITS, "--trainer.accelerator", "cpu"]
    for epochs in ("1", "40"):  # the first run compiles kernels
        whole = start([*arguments, "--trainer.max_epochs", epochs])
        whole.join(300)
        assert whole.exitcode == 0
    min(checkpoints(tmp_path), key=lambda file: file.stat().st_mtime_ns).unlink()
    ((whole_file, _),) = checkpoints(tmp_path).items()
    expected = torch.load(whole_file, weights_only=True)
    whole_file.unlink()
    rng, kills, code = random.Random(kind), 0, None
    while code is None and kills < KILLS:
        files = checkpoints(tmp_path)
        for file in files:
            torch.load(file, weights_only=True)  # whole, whenever the run was killed
        newest = max(files, key=lambda file: files[file], default=None)
        resumed = arguments if newest is None else ["fit", "--ckpt", str(newest)]
        code = run_and_kill(tmp_path, resumed, rng)
        kills += code is None
    assert code in (None, 0)
    assert kills > 2
    files = checkpoints(tmp_path)
    newest = max(files, key=lambda file: files[file])
    if code is None:
        last = start(["fit", "--ckpt", str(newest)])
        last.join(300)
        files = checkpoints(tmp_path)
        newest = max(files, key=lambda file: files[file])
    got = torch.load(newest, weights_only=True)
    assert got["global_step"] == expected["global_step"]
    for name, weight in expected["state_dict"].items():
        assert torch.equal(got["state_dict"][name], weight), name
