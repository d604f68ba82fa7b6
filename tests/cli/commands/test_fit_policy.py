"""Policy optimisation on the command line: several rewards in YAML, adapters, exact resume."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch
import yaml

from graphformer.batch_type import BatchLike
from graphformer.cli import main
from graphformer.tasks import PolicyOptimization
from graphformer.tasks.post_training import rewards
from graphformer.tasks.post_training.rewards import Completion

EXPERIMENT = Path(__file__).parents[3] / "experiments" / "walks_policy.yaml"
REWARDS = "graphformer.tasks.post_training"


def short(**more: object) -> str:
    """A file with `walks_policy.yaml` made small: 6 updates on each sampling, two rewards."""
    settings = yaml.safe_load(EXPERIMENT.read_text())
    arguments = settings["model"]["init_args"]
    arguments["network"]["init_args"] |= {"dim": 8, "depth": 1, "num_heads": 2}
    arguments |= {
        "reward": [
            {"class_path": f"{REWARDS}.walk_reward.PathOptimality"},
            {"class_path": f"{REWARDS}.rewards.RegularExpression", "init_args": {"pattern": "b"}},
        ],
        "reward_weights": [1.0, 0.5], "method": "ppo", "epochs": 3, "minibatches": 2,
        "group_size": 2, "kl_target": 0.1, **more,
    }  # fmt: skip
    settings["trainer"] = {"accelerator": "cpu", "max_steps": 8}
    Path("short.yaml").write_text(yaml.safe_dump(settings))
    return "short.yaml"


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def test_a_run_stopped_between_sampling_and_updates_resumes_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["fit", "-c", short(), "--trainer.default_root_dir"]
    assert main([*command, "whole"]) == 0
    step = PolicyOptimization.training_step

    def interrupted(task: PolicyOptimization, batch: BatchLike, number: int) -> torch.Tensor:
        if task.trainer.global_step == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return step(task, batch, number)

    with monkeypatch.context() as patched:
        patched.setattr(PolicyOptimization, "training_step", interrupted)
        assert main([*command, "parts"]) == 130
    (whole,), (first,) = (list(Path(name, "short").iterdir()) for name in ("whole", "parts"))
    assert main(["fit", "--ckpt", str(first)]) == 0
    (resumed,) = set(Path("parts", "short").iterdir()) - {first}
    expected, found = weights(whole), weights(resumed)
    assert expected.keys() == found.keys()
    assert any("reference" in name for name in found)
    assert [name for name in found if not torch.equal(expected[name], found[name])] == []


def test_a_run_killed_after_an_epoch_resumes_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["fit", "-c", short(), "--trainer.default_root_dir"]
    assert main([*command, "whole"]) == 0
    step = PolicyOptimization.training_step

    def killed(task: PolicyOptimization, batch: BatchLike, number: int) -> torch.Tensor:
        if task.trainer.global_step == 4:  # last.ckpt is of the end of the epoch before
            raise KeyError("killed")
        return step(task, batch, number)

    with monkeypatch.context() as patched:
        patched.setattr(PolicyOptimization, "training_step", killed)
        with pytest.raises(KeyError, match="killed"):
            main([*command, "parts"])
    (whole,), (first,) = (list(Path(name, "short").iterdir()) for name in ("whole", "parts"))
    assert main(["fit", "--ckpt", str(first)]) == 0
    (resumed,) = set(Path("parts", "short").iterdir()) - {first}
    expected, found = weights(whole), weights(resumed)
    assert [name for name in found if not torch.equal(expected[name], found[name])] == []


def test_adapters_are_trained_and_the_policy_generates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("peft")
    monkeypatch.chdir(tmp_path)
    command = ["fit", "-c", short(lora={"r": 2}, method="rloo"), "--trainer.max_steps", "2"]
    assert main(command) == 0
    (run,) = Path("runs/short").iterdir()
    assert (run / "adapter" / "adapter_config.json").is_file()
    capsys.readouterr()
    generate = ["generate", "--ckpt", str(run), "--prompt", "k", "--chat"]
    assert main([*generate, "--max-new-tokens", "5", "--seed", "1"]) == 0
    assert capsys.readouterr().out.startswith("k\n")


def test_a_reward_that_fails_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["fit", "-c", short(reward="math.fsum", reward_weights=None, method="rloo")]
    assert main([*command, "--trainer.max_steps", "1"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "reward: fsum raised TypeError" in error


def not_a_number(completions: list[Completion]) -> list[float]:
    return [float("nan")] * len(completions)


def test_a_reward_that_is_not_finite_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("lines.jsonl").write_text('{"prompt": "12"}\n' * 20)
    monkeypatch.setattr(rewards, "not_a_number", not_a_number, raising=False)
    file = short(reward=f"{REWARDS}.rewards.not_a_number", reward_weights=None, method="rloo")
    settings = yaml.safe_load(Path(file).read_text())
    settings["model"]["init_args"]["network"]["init_args"].pop("vocab_size")
    settings["data"] = {
        "class_path": "graphformer.data.PromptFile",
        "init_args": {"path": "lines.jsonl", "root": ".", "template": "plain"},
    }
    Path(file).write_text(yaml.safe_dump(settings))
    assert main(["fit", "-c", file]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "reward: got nan of not_a_number for the answer" in error
