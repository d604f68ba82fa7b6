"""`fit`, `validate`, `test` and `predict`: LightningCLI whose checkpoints carry their settings."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from graphformer.cli import console
from graphformer.cli.callbacks import (
    ExactResume,
    StopOnSignal,
    StoreConfig,
    StoreTokenizer,
    TrainingStopped,
    make_checkpoint_callback,
)
from graphformer.cli.checkpoints import check_resumable, stored_config
from graphformer.cli.config.arguments import Command, find_checkpoint, read_command
from graphformer.cli.config.messages import describe_error
from graphformer.cli.config.parser import Parser, fill_sizes
from graphformer.cli.config.pretrained import fill_pretrained
from graphformer.cli.errors import UsageError, plain_errors
from graphformer.cli.plots.tensorboard import LogPictures
from graphformer.cli.run_dir import make_loggers, make_run_folder
from graphformer.tasks import Task

os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")  # Lightning's to heed
SEED = 42


class CLI(LightningCLI):
    """Lightning's command line with the project's own ways of naming, storing and resuming."""

    def __init__(
        self, command: Command, ckpt: Path | None = None, *, folder: Path | None = None
    ) -> None:
        self.command, self.ckpt = command, ckpt
        self.stored: list[str] = []  # the checkpoint's settings, as arguments
        if ckpt is not None:
            self.stored = ["--config", stored_config(ckpt, whole=command.name == "fit")]
        self.folder = folder  # by default a new one
        super().__init__(
            Task,
            pl.LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            parser_class=Parser,
            save_config_callback=None,
            seed_everything_default=SEED,
            load_from_checkpoint_support=False,
            auto_configure_optimizers=False,
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The commands, with the arguments of Trainer's methods that they do not take."""
        data = {"dataloaders", "train_dataloaders", "val_dataloaders", "datamodule"}
        hidden = {"model", *data, "ckpt_path", "weights_only", "verbose", "return_predictions"}
        return dict.fromkeys(("fit", "validate", "test", "predict"), hidden)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the project's own arguments."""
        parser.add_argument("--ckpt", type=str, help="a checkpoint, or the folder of a run")
        parser.add_argument(
            "--output", type=str, default="predictions.pt", help="predict: a .pt or .csv file"
        )
        parser.set_defaults({"trainer.default_root_dir": "runs"})

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the checkpoint's settings, then the user's over them."""
        name, given = self.command.name, self.command.arguments
        try:
            self.config = parser.parse_args([name, *self.stored, *given])
            if name == "fit" and self.ckpt is not None:
                before = parser.parse_args([name, *self.stored])
                check_resumable(_flat(before.fit), _flat(self.config.fit), self.ckpt)
        except argparse.ArgumentError as error:
            options = [action.dest for action in self._parser(name)._actions]
            raise UsageError(describe_error(str(error), options)) from error

    def _parse_ckpt_path(self) -> None:
        """Do nothing: the checkpoint's settings came before the user's."""

    def instantiate_classes(self) -> None:
        """Build data, model and trainer."""
        config = self.config[self.command.name]
        fill_pretrained(config.model, config.data)
        data = fill_sizes(config.model, config.data)
        super().instantiate_classes()
        self.datamodule = data or self.datamodule

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """Build the trainer; a training run gets a folder of its own."""
        given = self._get(self.config_init, "trainer")
        callbacks: list[Callback] = []
        if given.enable_progress_bar is None:
            kwargs["enable_progress_bar"] = sys.stdout.isatty()
        if given.enable_model_summary is None:
            kwargs["enable_model_summary"] = False  # one line says it, see `fit`
        if self.command.name == "fit" and not given.fast_dev_run:
            if self.folder is None:
                self.folder = make_run_folder(given.default_root_dir, self._experiment())
            callbacks = self._callbacks(given)
            kwargs["default_root_dir"] = str(self.folder)
            if given.logger in (None, True):
                kwargs.setdefault("logger", make_loggers(self.folder))
        elif given.logger is None:
            kwargs["logger"] = False
        return self._instantiate_trainer({**given, **kwargs}, callbacks)

    def fit(self, model: Task, datamodule: pl.LightningDataModule) -> None:
        """Train, and show where the results are."""
        ckpt = self.ckpt
        console.print_start(model.network, model.adjacency, self.folder)
        self.trainer.fit(model, datamodule=datamodule, ckpt_path=ckpt, weights_only=True)
        if ckpt is not None and not self.trainer.callback_metrics:
            raise UsageError(
                f"the run of {ckpt} is finished: raise --trainer.max_epochs or --trainer.max_steps"
            )
        if model.lora is not None and self.folder is not None:
            model.save_adapter(self.folder / "adapter")
        console.print_fit(self.trainer, self.folder)

    def validate(self, model: Task, datamodule: pl.LightningDataModule) -> None:
        """Show the metrics of the validation split."""
        self._evaluate(self.trainer.validate, model, datamodule)

    def test(self, model: Task, datamodule: pl.LightningDataModule) -> None:
        """Show the metrics of the test split."""
        self._evaluate(self.trainer.test, model, datamodule)

    def predict(self, model: Task, datamodule: pl.LightningDataModule) -> None:
        """Write the network's outputs for the test split."""
        path = Path(self.config.predict.output)
        console.check_format(path)
        outputs = self.trainer.predict(
            model, datamodule=datamodule, ckpt_path=self.ckpt, weights_only=True
        )
        console.write_predictions(outputs or [], path)

    def _evaluate(self, method: Any, model: Task, datamodule: pl.LightningDataModule) -> None:
        results = method(
            model, datamodule=datamodule, ckpt_path=self.ckpt, weights_only=True, verbose=False
        )
        console.print_metrics(results, f"{type(datamodule).__name__}, {model.adjacency}")

    def _experiment(self) -> str:
        if self.command.experiment is not None:
            return self.command.experiment
        if self.ckpt is not None:  # runs/<experiment>/<run>/checkpoints/last.ckpt
            return self.ckpt.resolve().parent.parent.parent.name
        return str(type(self.model).__name__.lower())

    def _callbacks(self, given: Any) -> list[Callback]:
        assert self.folder is not None
        callbacks = [
            StoreConfig(self.folder, self._resolved()),
            ExactResume(),
            StopOnSignal(self.folder),
            StoreTokenizer(self.folder),
            LogPictures(),
        ]
        chosen = given.callbacks if isinstance(given.callbacks, list) else [given.callbacks]
        has_own = any(isinstance(callback, ModelCheckpoint) for callback in chosen)
        if given.enable_checkpointing is not False:
            keep_best = not has_own and given.limit_val_batches != 0
            callbacks.append(make_checkpoint_callback(self.folder, keep_best=keep_best))
        return callbacks

    def _resolved(self) -> str:
        """All settings of this run as YAML, sizes included."""
        config = self.config.fit.clone()
        for key in ("config", "ckpt", "output"):
            config.pop(key, None)
        return str(self._parser("fit").dump(config, skip_validation=True, skip_unset=False))


def run(argv: list[str]) -> int:
    """Run one of Lightning's commands and return the exit code.

    Raises:
        UsageError: something that the user can put right.
    """
    command = read_command(argv)
    ckpt = None if command.ckpt is None else find_checkpoint(command.ckpt, command.name)
    listener = signal.getsignal(signal.SIGINT)
    try:
        with console.quiet(), plain_errors():
            CLI(command, ckpt)
    except TrainingStopped as stop:
        print(f"\nstopped; go on with: graphformer fit --ckpt {stop}")
        return 130
    except SystemExit as end:  # 0 after --help; Lightning exits with 1 on the second Ctrl-C
        return 130 if end.code == 1 else int(end.code or 0)
    finally:
        signal.signal(signal.SIGINT, listener)
    return 0


def _flat(config: Any) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in ("config", "ckpt", "output")}
