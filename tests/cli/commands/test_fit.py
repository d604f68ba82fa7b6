"""Training, evaluation and prediction through the command."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
import torch
import yaml
from helpers.runs import Run

from graphformer.cli import main
from graphformer.cli.callbacks import CONFIG_KEY


def metrics(text: str) -> dict[str, float]:
    return {
        name: float(value) for name, value in re.findall(r"((?:val|test)/\w+)\D+(-?[\d.]+)", text)
    }


def test_run_folder_is_complete(trained: Run):
    config = yaml.safe_load((trained.folder / "config.yaml").read_text())
    assert config["model"]["init_args"]["num_classes"] == 10
    assert config["model"]["init_args"]["network"]["init_args"]["patch_size"] == 4
    assert config["seed_everything"] == 42
    rows = list(csv.DictReader((trained.folder / "metrics.csv").read_text().splitlines()))
    assert [float(row["val/loss"]) > 0 for row in rows] == [True, True]
    names = {file.name for file in (trained.folder / "checkpoints").iterdir()}
    assert names == {"best.ckpt", "last.ckpt"}


def test_checkpoint_holds_plain_types_and_settings(trained: Run):
    checkpoint = torch.load(trained.last, weights_only=True)
    assert yaml.safe_load(checkpoint[CONFIG_KEY])["data"]["class_path"] == "graphformer.data.Digits"


def test_checkpoint_is_enough_to_test_and_adjacency_can_be_exchanged(
    trained: Run, workplace: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["test", "--ckpt", str(trained.folder)]) == 0
    complete = metrics(capsys.readouterr().out)
    assert main(["test", "--ckpt", str(trained.last), "--adjacency", "SelfLoops"]) == 0
    alone = metrics(capsys.readouterr().out)
    arguments = ["test", "--ckpt", str(trained.last), "--adjacency", "Window"]
    assert main([*arguments, "--adjacency.radius", "4"]) == 0
    window = metrics(capsys.readouterr().out)
    assert complete.keys() == {"test/loss", "test/accuracy", "test/f1"}
    assert window["test/loss"] == complete["test/loss"]  # 4 patches: the band covers them all
    arguments = ["test", "--ckpt", str(trained.last), "--adjacency", "TopBlocks"]
    assert main([*arguments, "--adjacency.block", "2", "--adjacency.k", "2"]) == 0
    blocks = metrics(capsys.readouterr().out)  # the edges come from content, and are all pairs
    assert float(blocks["test/loss"]) == pytest.approx(float(complete["test/loss"]), rel=1e-4)
    assert alone["test/loss"] != complete["test/loss"]
    assert not (workplace / "runs").exists()


def test_adjacency_needs_its_own_arguments(
    trained: Run, workplace: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["validate", "--ckpt", str(trained.last), "--adjacency", "Window"]) == 2
    assert "model.adjacency (Window) needs radius" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["out.pt", "out.csv"])
def test_predictions_are_written(trained: Run, workplace: Path, name: str):
    assert main(["predict", "--ckpt", str(trained.last), "--output", name]) == 0
    if name == "out.pt":
        assert torch.load(name, weights_only=True).shape == (360, 10)
    else:
        header, *rows = csv.reader(Path(name).read_text().splitlines())
        assert header == ["sample", "class", *(f"probability_{i}" for i in range(10))]
        assert [row[0] for row in rows] == [str(i) for i in range(360)]
        for _, best, *probabilities in rows[:7]:
            numbers = [float(p) for p in probabilities]
            assert sum(numbers) == pytest.approx(1)
            assert numbers[int(best)] == max(numbers)
    assert {file.name for file in workplace.iterdir()} == {"tiny.yaml", name}


def test_overrides_and_folders_that_never_clash(workplace: Path):
    arguments = ["fit", "-c", "tiny.yaml", "--trainer.max_steps=1", "--trainer.logger", "false"]
    for radius in ("1", "2"):
        extra = ["--model.adjacency", "Window", "--model.adjacency.radius", radius]
        assert main([*arguments, *extra, "--model.network.dim", "8"]) == 0
    folders = sorted((workplace / "runs" / "tiny").iterdir())
    configs = [yaml.safe_load((folder / "config.yaml").read_text()) for folder in folders]
    assert [c["model"]["init_args"]["adjacency"]["init_args"]["radius"] for c in configs] == [1, 2]
    assert configs[0]["model"]["init_args"]["network"]["init_args"]["dim"] == 8


def test_without_validation_the_last_checkpoint_is_kept(workplace: Path):
    arguments = ["fit", "-c", "tiny.yaml", "--trainer.limit_val_batches", "0"]
    assert main([*arguments, "--trainer.max_epochs", "1"]) == 0
    (folder,) = (workplace / "runs" / "tiny").iterdir()
    assert [file.name for file in (folder / "checkpoints").iterdir()] == ["last.ckpt"]


def test_own_checkpoints_beside_the_last_one(workplace: Path):
    own = "lightning.pytorch.callbacks.ModelCheckpoint"
    (workplace / "own.yaml").write_text(
        f"trainer: {{callbacks: [{{class_path: {own}, init_args: "
        "{monitor: val/accuracy, mode: max, filename: best}}]}\n"
    )
    arguments = ["fit", "-c", "tiny.yaml", "-c", "own.yaml", "--trainer.max_epochs", "1"]
    assert main(arguments) == 0
    (folder,) = (workplace / "runs" / "tiny").iterdir()
    names = {file.name for file in (folder / "checkpoints").iterdir()}
    assert names == {"best.ckpt", "last.ckpt"}
    best = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    assert "monitor': 'val/accuracy'" in str(best["callbacks"].keys())


def test_network_by_its_bare_name_without_a_file(workplace: Path):
    settings = {
        "model": "Classification",
        "model.network": "vit",
        "model.network.dim": "8",
        "model.network.depth": "1",
        "data": "Digits",
        "data.patch_size": "4",
        "trainer.fast_dev_run": "true",
        "trainer.accelerator": "cpu",
        "trainer.enable_progress_bar": "false",
    }
    assert main(["fit", *(word for k, v in settings.items() for word in (f"--{k}", v))]) == 0
    assert not (workplace / "runs").exists()
