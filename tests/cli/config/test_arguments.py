"""Command lines before LightningCLI parses them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from graphformer.cli.config.arguments import (
    Command,
    find_checkpoint,
    read_command,
    split_options,
)
from graphformer.cli.config.files import config_root
from graphformer.cli.errors import UsageError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "pairs"),
    [
        ([], []),
        (["--a", "1", "--b=2"], [("--a", "1"), ("--b", "2")]),
        (["--a=b=c"], [("--a", "b=c")]),
        (["--flag", "--a", "1"], [("--flag", None), ("--a", "1")]),
        (["-c", "x.yaml", "--flag"], [("-c", "x.yaml"), ("--flag", None)]),
        (["--lr", "-1"], [("--lr", "-1")]),
        (["word", "--a", "1"], [("word", None), ("--a", "1")]),
        (["--a="], [("--a", "")]),
    ],
)
def test_split_options(words: list[str], pairs: list[tuple[str, str | None]]):
    assert split_options(words) == pairs


def test_files_are_resolved_and_the_first_names_the_experiment(folder: Path):
    (folder / "own.yaml").write_text("")
    command = read_command(["fit", "-c", "gat_cora", "--config=own.yaml", "--trainer.devices", "1"])
    shipped = str(config_root() / "experiments" / "gat_cora.yaml")
    arguments = ["-c", shipped, "--config", "own.yaml", "--trainer.devices", "1"]
    assert command == Command("fit", arguments, "gat_cora", None)


def test_one_name_twice_is_the_experiment_and_the_data_set(folder: Path):
    command = read_command(["fit", "-c", "listops", "--config", "listops"])
    kinds = [Path(file).relative_to(config_root()) for file in command.arguments[1::2]]
    assert kinds == [Path("experiments/listops.yaml"), Path("datasets/listops.yaml")]
    assert command.experiment == "listops"
    again = read_command(["fit", "-c", "gat_cora", "-c", "gat_cora"])  # there is no such data set
    assert len({*again.arguments[1::2]}) == 1


@pytest.mark.parametrize(
    ("short", "full"),
    [
        (["--adjacency", "Window"], ["--model.adjacency", "Window"]),
        (["--adjacency.radius=4"], ["--model.adjacency.radius", "4"]),
        (["--model.network", "vit"], ["--model.network", "graphformer.models.vit"]),
        (
            ["--model.network.class_path", "gat"],
            ["--model.network.class_path", "graphformer.models.gat"],
        ),
        (["--model.network", "my.module.net"], ["--model.network", "my.module.net"]),
        (["--model.network"], ["--model.network"]),
        (["--help"], ["--help"]),
    ],
)
def test_short_forms_are_expanded(short: list[str], full: list[str]):
    assert read_command(["test", *short]).arguments == full


def test_the_checkpoint_is_kept_and_passed_on():
    command = read_command(["test", "--ckpt", "runs/x"])
    assert command.ckpt == "runs/x"
    assert command.arguments == ["--ckpt", "runs/x"]
    assert command.experiment is None


@pytest.mark.parametrize("option", ["-c", "--config", "--ckpt"])
def test_options_that_need_a_value(option: str):
    with pytest.raises(UsageError, match=f"{option} needs a value"):
        read_command(["fit", option])


def run_folder(root: Path, *names: str) -> Path:
    checkpoints = root / "checkpoints"
    checkpoints.mkdir(parents=True)
    for name in names:
        (checkpoints / name).touch()
    return root


def test_checkpoint_of_a_folder(folder: Path):
    both = run_folder(folder / "both", "best.ckpt", "last.ckpt")
    last = run_folder(folder / "last", "last.ckpt")
    assert find_checkpoint(str(both), "fit") == both / "checkpoints" / "last.ckpt"
    assert find_checkpoint(str(both), "test") == both / "checkpoints" / "best.ckpt"
    assert find_checkpoint(str(last), "test") == last / "checkpoints" / "last.ckpt"
    file = str(last / "checkpoints" / "last.ckpt")
    assert find_checkpoint(file, "fit") == Path(file)


def test_a_folder_with_a_best_checkpoint_alone_cannot_be_resumed(folder: Path):
    best = run_folder(folder / "best", "best.ckpt")
    with pytest.raises(UsageError, match="there is no checkpoint '.*best', and none below runs/"):
        find_checkpoint(str(best), "fit")


def test_the_newest_checkpoint_is_suggested(folder: Path):
    for seconds, name in enumerate(("a", "b", "c")):
        run = run_folder(folder / "runs" / "x" / name, "last.ckpt")
        time = 1_000_000 + (7 if name == "b" else seconds)
        os.utime(run / "checkpoints" / "last.ckpt", (time, time))
    with pytest.raises(UsageError, match="the newest one here is runs/x/b/checkpoints/last.ckpt"):
        find_checkpoint("nowhere", "test")


def test_names_of_loggers_add_to_one_another():
    command = read_command(["fit", "--trainer.logger", "wandb", "--trainer.logger=csv"])
    assert command.arguments == ["--trainer.logger+", "wandb", "--trainer.logger+", "csv"]
    arguments = ["--trainer.logger", "false"]
    assert read_command(["fit", *arguments]).arguments == arguments
