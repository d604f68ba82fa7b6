"""Loggers by name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

from graphformer.cli import main
from graphformer.cli.config import loggers
from graphformer.cli.config.loggers import make_logger, make_loggers
from graphformer.cli.errors import UsageError

made: list[dict[str, object]] = []


class Service(CSVLogger):
    """A stand-in for wandb's logger, which writes into a folder of the run."""

    def __init__(self, *, name: str, save_dir: Path, project: str) -> None:
        made.append({"name": name, "save_dir": save_dir, "project": project})
        super().__init__(save_dir, "service", project)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `wandb` name a stand-in that is installed."""
    made.clear()
    monkeypatch.setattr(loggers, "WandbLogger", Service)
    monkeypatch.setattr(loggers, "find_spec", lambda name: name == "wandb")


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=f"{name}: needs the package {name}; pip install {name}"):
        make_logger(name, tmp_path / "a" / "b")


def test_a_service_knows_the_run(tmp_path: Path, service: None):
    folder = tmp_path / "a" / "b"
    assert isinstance(make_logger("wandb", folder), Service)
    assert made == [{"name": "b", "save_dir": folder, "project": "a"}]


def test_what_a_service_refuses_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(**_: object) -> None:
        raise RuntimeError("no key")

    monkeypatch.setattr(loggers, "WandbLogger", refuse)
    monkeypatch.setattr(loggers, "find_spec", lambda name: True)
    with pytest.raises(UsageError, match="wandb: no key; run `wandb login`"):
        make_logger("wandb", tmp_path)


def test_mlflow_has_a_database_in_the_folder_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked: list[dict[str, str]] = []

    class Stand(CSVLogger):
        def __init__(self, experiment: str, **options: str) -> None:
            asked.append({"experiment": experiment, **options})
            super().__init__(tmp_path)

    monkeypatch.setattr(loggers, "MLFlowLogger", Stand)
    monkeypatch.setattr(loggers, "find_spec", lambda name: True)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "a" / "b"
    make_logger("mlflow", folder)
    assert asked[0]["tracking_uri"] == f"sqlite:///{folder.as_posix()}/mlflow.db"
    assert asked[0]["artifact_location"] == (folder / "mlruns").as_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://service")
    make_logger("mlflow", folder)
    assert asked[1] == {"experiment": "a", "run_name": "b", "tracking_uri": "http://service"}


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_what_an_installed_package_lacks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    monkeypatch.delitem(sys.modules, name, raising=False)
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("import no_such_dependency\n")
    monkeypatch.syspath_prepend(tmp_path)
    message = f"{name}: the package {name} cannot be imported .*no_such_dependency.*pip install"
    with pytest.raises(UsageError, match=message):
        make_logger(name, tmp_path / "a" / "b")


def kinds(setting: object, folder: Path) -> list[type[Logger]]:
    found = make_loggers(setting, folder)
    return [type(each) for each in found] if found else []


def test_names_add_to_the_own_loggers_and_class_paths_replace_them(tmp_path: Path, service: None):
    folder, other = tmp_path / "a" / "b", CSVLogger(tmp_path / "other")
    assert kinds(None, folder) == kinds(True, folder) == kinds("csv", folder) == [CSVLogger]
    assert kinds("wandb", folder) == kinds(["wandb", "wandb"], folder) == [CSVLogger, Service]
    assert make_loggers([other], folder) == [other]
    assert kinds(["wandb", other], folder) == [Service, CSVLogger]
    assert kinds(["wandb", other, "csv"], folder) == [Service, CSVLogger, CSVLogger]
    assert make_loggers(False, folder) is False


def test_tensorboard_is_an_own_logger_if_it_is_installed(tmp_path: Path):
    pytest.importorskip("tensorboard")
    found = kinds(None, tmp_path / "a" / "b")
    assert found == kinds(["tensorboard", "csv"], tmp_path / "a" / "b")
    assert found == [CSVLogger, TensorBoardLogger]


def test_a_resumed_run_keeps_its_loggers_until_they_are_taken_away(workplace: Path, service: None):
    runs = workplace / "runs" / "tiny"
    (workplace / "own.yaml").write_text(
        "trainer: {logger: wandb, max_steps: 1, log_every_n_steps: 1}\n"
    )
    assert main(["fit", "-c", "tiny.yaml", "-c", "own.yaml"]) == 0
    (first,) = runs.iterdir()
    assert yaml.safe_load((first / "config.yaml").read_text())["trainer"]["logger"] == "wandb"
    assert main(["fit", "--ckpt", str(first), "--trainer.max_steps", "2"]) == 0
    second = max(runs.iterdir())
    assert [each["name"] for each in made] == [first.name, second.name]
    assert (second / "service" / "tiny" / "metrics.csv").is_file()
    more = ["--trainer.max_steps", "3", "--trainer.logger", "false"]
    assert main(["fit", "--ckpt", str(second), *more]) == 0
    assert len(made) == 2
    third = max(runs.iterdir())
    assert yaml.safe_load((third / "config.yaml").read_text())["trainer"]["logger"] is False


def test_names_are_of_training_runs(workplace: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["validate", "-c", "tiny.yaml", "--trainer.logger", "csv"]) == 2
    assert "--trainer.logger: got a name with validate" in capsys.readouterr().err
    assert main(["fit", "-c", "tiny.yaml", "--trainer.logger", "wanda"]) == 2
    assert "trainer.logger: unknown name 'wanda'" in capsys.readouterr().err
    (workplace / "own.yaml").write_text("trainer: {logger: [csv]}\n")
    assert main(["validate", "-c", "tiny.yaml", "-c", "own.yaml"]) == 0  # prints, logs nothing
    assert not (workplace / "runs").exists()
