"""A killed process ends the run: one sentence, an exit code, no process left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from graphformer.cli.errors import lost_process

SETTINGS: dict[str, Any] = {
    "model": {
        "class_path": "LanguageModeling",
        "init_args": {
            "network": {
                "class_path": "graphformer.models.language_model",
                "init_args": {"dim": 12, "depth": 1, "num_heads": 2, "max_length": 17},
            }
        },
    },
    "data": {
        "class_path": "TextFile",
        "init_args": {"path": "text.txt", "block_size": 17, "batch_size": 3, "steps_per_epoch": 7},
    },
    "trainer": {"accelerator": "cpu", "devices": 2, "max_epochs": 100_000},
}
STRATEGIES: dict[str, Any] = {
    "ddp": "ddp",
    "fsdp2": {
        "class_path": "lightning.pytorch.strategies.ModelParallelStrategy",
        "init_args": {"data_parallel_size": 2, "tensor_parallel_size": 1},
    },
}


def wait(condition, seconds: float) -> None:  # type: ignore[no-untyped-def]
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.2)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("victim", ["first", "second"])
def test_a_killed_process_ends_the_run(victim: str, strategy: str, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("".join(chr(97 + i * i % 23) for i in range(1009)))
    trainer = {**SETTINGS["trainer"], "strategy": STRATEGIES[strategy]}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({**SETTINGS, "trainer": trainer}))
    with (tmp_path / "output").open("w") as output:
        first = subprocess.Popen(
            [sys.executable, "-m", "graphformer", "fit", "-c", "run.yaml"],
            cwd=tmp_path, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        wait(lambda: list(tmp_path.glob("runs/*/*/checkpoints/last.ckpt")), 400)
        (second,) = children(first.pid)
        os.kill(first.pid if victim == "first" else second, signal.SIGKILL)
        assert first.wait(60) != 0
        wait(lambda: not is_alive(second), 60)
    finally:
        for pid in (*(children(first.pid) if first.poll() is None else ()), first.pid):
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)
    text = (tmp_path / "output").read_text()
    sentences = [line for line in text.splitlines() if line.startswith("graphformer: ")]
    assert len(sentences) == 1, text
    assert sentences[0].startswith("graphformer: another process of this run has ended or cannot")
    assert "Traceback" not in text


def test_other_errors_are_not_those_of_a_lost_process() -> None:
    gloo = RuntimeError(
        "[/src/gloo/transport/tcp/pair.cc:553] Connection closed by peer [::1]:1. This is typical."
    )
    assert lost_process(RuntimeError("shape mismatch")) is None
    sentence = lost_process(gloo)
    assert sentence is not None
    assert "(Connection closed by peer [::1]:1)" in sentence
