"""`trainer.logger` by name: wandb, mlflow, csv and tensorboard."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.loggers import (
    CSVLogger,
    Logger,
    MLFlowLogger,
    TensorBoardLogger,
    WandbLogger,
)

from graphformer.cli.config.arguments import LOGGERS
from graphformer.cli.errors import UsageError

LoggerName = Literal["csv", "tensorboard", "wandb", "mlflow"]
assert get_args(LoggerName) == LOGGERS  # that list needs no import of Lightning
_Setting = LoggerName | Logger | list[LoggerName | Logger] | bool | None
_OWN = ("csv", "tensorboard")
"""Loggers of every run, in its folder; tensorboard if it is installed."""
_HINTS = {
    "wandb": "run `wandb login`, or set the variable WANDB_MODE to offline",
    "mlflow": "set the variable MLFLOW_TRACKING_URI, or install the package mlflow",
}


def accept_names(parser: LightningArgumentParser) -> None:
    """Let `trainer.logger` be a name, a class path, or a list of both."""
    (action,) = (each for each in parser._actions if each.dest == "trainer.logger")
    action._typehint = _Setting


def logger_names(setting: object) -> list[str]:
    """Return the names in a value of `trainer.logger`, each once."""
    values = setting if isinstance(setting, list) else [setting]
    return list(dict.fromkeys(value for value in values if isinstance(value, str)))


def make_loggers(setting: Any, folder: Path) -> Sequence[Logger] | Literal[False]:
    """Return the loggers of a training run.

    Args:
        setting: value of `trainer.logger`. Names add to the loggers of every run, those of metrics
            in the run's folder; loggers made from class paths replace these.
        folder: `<root>/<experiment>/<run>`.

    Raises:
        UsageError: when the package of a name is not installed, or the service refuses the run.
    """
    if setting is False:
        return False
    values = setting if isinstance(setting, list) else [setting]
    given = [value for value in values if isinstance(value, Logger)]
    named = logger_names(setting)
    own = [] if given else [name for name in _OWN if name == "csv" or find_spec(name)]
    names = dict.fromkeys([*own, *named])
    return [*(make_logger(name, folder) for name in names), *given]


def make_logger(name: str, folder: Path) -> Logger:
    """Return a logger by its name.

    Those of a service use the experiment and the name of the run; their files are in the run's
    folder, or where the variables WANDB_MODE and MLFLOW_TRACKING_URI say.

    Raises:
        UsageError: when its package is not installed, or the service refuses the run.
    """
    root, experiment, run = folder.parent.parent, folder.parent.name, folder.name
    if name == "csv":
        return CSVLogger(root, experiment, run)
    if find_spec(name) is None:
        raise UsageError(f"--trainer.logger {name}: needs the package {name}; pip install {name}")
    if name == "tensorboard":
        return TensorBoardLogger(root, experiment, run, default_hp_metric=False)
    try:
        logger = (
            WandbLogger(name=run, save_dir=folder, project=experiment)
            if name == "wandb"
            else _mlflow_logger(experiment, run, folder.absolute())
        )
        logger.experiment  # noqa: B018 - connects now, not at the first step
    except Exception as error:  # services raise errors of many classes
        line = " ".join(str(error).split())[:200].rstrip(".")
        hint = _HINTS[name]
        if isinstance(error, ImportError):
            line, hint = _import_problem(name) or line, f"pip install --force-reinstall {name}"
        raise UsageError(f"--trainer.logger {name}: {line}; {hint}") from error
    return logger


def _mlflow_logger(experiment: str, run: str, folder: Path) -> MLFlowLogger:
    """Return MLflow's logger; MLflow (3.17) refuses folders of files, so the default is SQLite."""
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if uri is not None:
        return MLFlowLogger(experiment, run_name=run, tracking_uri=uri)
    database = f"sqlite:///{(folder / 'mlflow.db').as_posix()}"
    artifacts = (folder / "mlruns").as_uri()  # MLflow's default is in the working folder
    return MLFlowLogger(
        experiment, run_name=run, tracking_uri=database, artifact_location=artifacts
    )


def _import_problem(name: str) -> str | None:
    """Return why an installed package cannot be imported, which Lightning's message leaves out."""
    try:
        import_module(name)
    except ImportError as error:
        return f"the package {name} cannot be imported ({error})"
    return None
