"""`fit`, `validate`, `test` and `predict`: LightningCLI with settings stored in checkpoints."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from graphformer.cli import console
from graphformer.cli.callbacks import (
    ExactResume,
    ResetLearningRate,
    SaveLast,
    StopOnSignal,
    StoreConfig,
    StoreTokenizer,
    TrainingStopped,
    keep_best,
    last_of_each,
)
from graphformer.cli.checkpoints import check_resumable, stored_config
from graphformer.cli.class_report import ClassReport, report_folder
from graphformer.cli.config.arguments import Command, find_checkpoint, read_command
from graphformer.cli.config.loggers import accept_names, logger_names, make_loggers
from graphformer.cli.config.messages import describe_error
from graphformer.cli.config.parser import Parser
from graphformer.cli.config.pretrained import fill_pretrained
from graphformer.cli.config.ranges import check_ranges
from graphformer.cli.config.renamed import report_renamed
from graphformer.cli.config.setting_help import setting_help
from graphformer.cli.config.sizes import fill_sizes
from graphformer.cli.errors import UsageError, argument_errors, lost_process, plain_errors
from graphformer.cli.layerwise import LayerwiseOutputs, StreamPredictions, choose_layerwise
from graphformer.cli.plots.tensorboard import LogFigures
from graphformer.cli.predicted_split import check_labelled, choose_split, own_graph
from graphformer.cli.prediction_files import check_format, open_predictions, write_predictions
from graphformer.cli.predictions import GatherPredictions
from graphformer.cli.run_data import restore_names
from graphformer.cli.run_dir import (
    AtomicCheckpointIO,
    is_first_process,
    make_run_folder,
    removed_if_unused,
)
from graphformer.data.graph.neighbor_loader import NeighborNodes
from graphformer.tasks import Task

DEFAULT_SEED = 42
_SHORT_FORMS = (
    "also: --adjacency NAME and --adjacency.SETTING, short for --model.adjacency; --trust MODULE; "
    "fit --folds N --seeds N --jobs N, for many runs"
)
_LABELLED_SPLITS = {"fit": "train", "validate": "val", "test": "test"}
_NOT_STORED = ("config", "ckpt", "layerwise", "output", "reset", "split")


class CLI(LightningCLI):
    """LightningCLI that stores its settings in checkpoints and resumes from these alone.

    Args:
        command: the command line.
        ckpt: checkpoint whose settings precede those of the command line.
        folder: folder of a training run; by default a new one.
    """

    def __init__(
        self, command: Command, ckpt: Path | None = None, *, folder: Path | None = None
    ) -> None:
        self.command, self.ckpt = command, ckpt
        self.stored: list[str] = []  # settings of the checkpoint, as arguments
        if ckpt is not None:
            self.stored = ["--config", stored_config(ckpt, whole=command.name == "fit")]
        self.folder = folder
        self.shows_bar = False
        self.new_folders: list[Path] = []  # that this run has created: its own and those around it
        super().__init__(
            Task,
            pl.LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            parser_class=Parser,
            save_config_callback=None,
            seed_everything_default=DEFAULT_SEED,
            load_from_checkpoint_support=False,
            auto_configure_optimizers=False,
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """Return the command, with the arguments of the Trainer's method that are not options."""
        data = {"dataloaders", "train_dataloaders", "val_dataloaders", "datamodule"}
        hidden = {"model", *data, "ckpt_path", "weights_only", "verbose", "return_predictions"}
        return {self.command.name: hidden}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add `--ckpt`, `--reset` and `--output`, and set the folder of runs."""
        parser.add_argument("--ckpt", type=str, help="a checkpoint, or the folder of a run")
        parser.add_argument(
            "--reset",
            type=Literal["lr"] | None,
            help="fit --ckpt: take the learning rate and its schedule from the command line",
        )
        parser.add_argument(
            "--output", type=str, default="predictions.csv",
            help="predict: a .csv, .parquet or .jsonl file, or .pt for the network's outputs",
        )  # fmt: skip
        parser.add_argument(
            "--split",
            type=Literal["train", "val", "test", "all"],
            default="test",
            help="predict: the split; all for all nodes of one graph",
        )
        parser.add_argument(
            "--layerwise",
            type=bool,
            default=False,
            help="validate, test, predict: all edges, layer by layer, not sampled neighbourhoods",
        )
        accept_names(parser)
        parser.set_defaults({"trainer.default_root_dir": "runs"})
        parser.epilog = _SHORT_FORMS

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the checkpoint's settings, overridden by those of the command line."""
        name = self.command.name
        if name != "fit" and "--trainer.logger+" in self.command.arguments:  # a name
            raise UsageError(
                f"--trainer.logger: got a name with {name}, expected it with fit; drop it"
            )
        for option in ("--output", "--split"):
            if name != "predict" and option in self.command.arguments:
                raise UsageError(f"{option}: got it with {name}, expected it with predict; drop it")
        if name == "fit" and "--layerwise" in self.command.arguments:
            raise UsageError("--layerwise: got it with fit, expected test or predict; drop it")
        try:
            self.config = parser.parse_args([name, *self.stored, *self.command.arguments])
            if name == "fit" and self.ckpt is not None:
                stored = parser.parse_args([name, *self.stored])
                check_resumable(
                    _flat(stored.fit),
                    _flat(self.config.fit),
                    self.ckpt,
                    reset_lr=self.config.fit.reset == "lr",
                )
        except argparse.ArgumentError as error:
            options = [action.dest for action in self._parser(name)._actions]
            raise UsageError(describe_error(str(error), options)) from error
        if self.config[name].reset is not None and (name != "fit" or self.ckpt is None):
            raise UsageError("--reset: got lr without fit --ckpt, expected a run to resume")
        check_ranges(self.config[name])
        report_renamed()

    def _parse_ckpt_path(self) -> None:
        """Do nothing: `parse_arguments` has read the checkpoint's settings."""

    def instantiate_classes(self) -> None:
        """Build data, model and trainer, with the sizes that the data defines."""
        config = self.config[self.command.name]
        fill_pretrained(config.model, config.data)
        with argument_errors():
            data = fill_sizes(config.model, config.data)
            super().instantiate_classes()
        self.datamodule = data or self.datamodule
        graph = own_graph(self.datamodule)
        if self.ckpt is not None and graph is not None:
            with argument_errors():
                restore_names(self.datamodule, self.ckpt)
                self.datamodule.setup()
            if self.command.name in _LABELLED_SPLITS:
                check_labelled(graph, _LABELLED_SPLITS[self.command.name])

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """Build the trainer, and create the folder of a training run."""
        settings = self._get(self.config_init, "trainer")
        self.shows_bar = settings.enable_progress_bar
        if settings.enable_progress_bar is None:
            self.shows_bar = kwargs["enable_progress_bar"] = sys.stdout.isatty()
        if settings.enable_model_summary is None:
            kwargs["enable_model_summary"] = False  # `fit` prints one line instead
        if self.command.name != "fit" or settings.fast_dev_run:
            if settings.logger is None or logger_names(settings.logger):
                kwargs["logger"] = False
            return self._instantiate_trainer({**settings, **kwargs}, [])
        if self.folder is None:
            root = Path(settings.default_root_dir)
            around = (root / self._experiment(), root, *root.parents)
            new = [folder for folder in around if not folder.exists()]
            self.folder = make_run_folder(root, self._experiment())
            self.new_folders = [self.folder, *new]
        with removed_if_unused(self.new_folders):
            return self._training_trainer(self.folder, settings, kwargs)

    def _training_trainer(self, folder: Path, settings: Any, kwargs: dict[str, Any]) -> pl.Trainer:
        """Build the trainer of a training run."""
        kwargs["default_root_dir"] = str(folder)
        if settings.plugins is None:
            kwargs["plugins"] = AtomicCheckpointIO()
        if "logger" not in kwargs:
            kwargs["logger"] = make_loggers(settings.logger, folder)
        own = settings.callbacks or []
        own = last_of_each(own if isinstance(own, list) else [own])
        callbacks = self._callbacks(folder, settings, own)
        return self._instantiate_trainer({**settings, **kwargs, "callbacks": own}, callbacks)

    def fit(self, model: Task, datamodule: pl.LightningDataModule) -> None:
        """Train, and print the last metrics and the paths of the checkpoints."""
        if self.trainer.is_global_zero:
            console.print_start(model.network, model.adjacency, self.folder)
        if self.folder is None:
            self._train(model, datamodule)
            return
        with removed_if_unused(self.new_folders):
            self._train(model, datamodule)
        if model.lora is not None:  # all processes: each may have a shard
            model.save_adapter(self.folder / "adapter")

    def _train(self, model: Task, datamodule: pl.LightningDataModule) -> None:
        # The process that trains prints, because `ddp_spawn` trains in others.
        self.trainer.callbacks.append(console.PrintResult(self.folder))  # type: ignore[attr-defined]
        ckpt = self.ckpt
        self.trainer.fit(model, datamodule=datamodule, ckpt_path=ckpt, weights_only=True)
        if ckpt is not None and not self.trainer.callback_metrics:
            raise UsageError(
                f"the run of {ckpt} is finished: raise --trainer.max_epochs or --trainer.max_steps"
            )

    def validate(self, model: Task, datamodule: pl.LightningDataModule) -> None:
        """Print the metrics of the validation split."""
        self._evaluate(self.trainer.validate, model, datamodule)

    def test(self, model: Task, datamodule: pl.LightningDataModule) -> None:
        """Print the metrics of the test split, also by class for a classification."""
        self.trainer.callbacks.append(ClassReport(report_folder(self.ckpt)))  # type: ignore[attr-defined]
        self._evaluate(self.trainer.test, model, datamodule)

    def predict(self, model: Task, datamodule: pl.LightningDataModule) -> None:
        """Write predictions for a split, by default the test split."""
        path, split = Path(self.config.predict.output), self.config.predict.split
        check_format(path)
        if self.config.predict.layerwise or (
            split == "all" and isinstance(datamodule, NeighborNodes)
        ):
            self._predict_layerwise(model, datamodule, path, split)
            return
        choose_split(model, datamodule, split)
        # The process that predicts writes the file, because `ddp_spawn` predicts in others.
        write = GatherPredictions(partial(write_predictions, model, datamodule, path), split)
        self._predict(model, datamodule, write)

    def _predict_layerwise(
        self, model: Task, datamodule: pl.LightningDataModule, path: Path, split: str
    ) -> None:
        """Write predictions of the nodes of one graph, in parts, computed from all edges."""
        choose_layerwise(datamodule, self.trainer)
        datamodule.predict_split = split  # type: ignore[attr-defined]
        with (
            open_predictions(model, datamodule, path) as write,
            TemporaryDirectory(prefix=".layerwise.", dir=path.parent) as folder,
        ):
            callbacks = LayerwiseOutputs(Path(folder)), StreamPredictions(write)
            self._predict(model, datamodule, *callbacks)

    def _predict(
        self, model: Task, datamodule: pl.LightningDataModule, *callbacks: Callback
    ) -> None:
        self.trainer.callbacks += callbacks  # type: ignore[attr-defined]
        self.trainer.predict(
            model,
            datamodule=datamodule,
            ckpt_path=self.ckpt,
            weights_only=True,
            return_predictions=False,
        )

    def _evaluate(self, method: Any, model: Task, datamodule: pl.LightningDataModule) -> None:
        with ExitStack() as stack:
            if self.config[self.command.name].layerwise:
                choose_layerwise(datamodule, self.trainer)
                folder = TemporaryDirectory(prefix=".layerwise.", dir=".")
                callback = LayerwiseOutputs(Path(stack.enter_context(folder)))
                self.trainer.callbacks.append(callback)  # type: ignore[attr-defined]
            results = method(
                model, datamodule=datamodule, ckpt_path=self.ckpt, weights_only=True, verbose=False
            )
        if self.trainer.is_global_zero:
            weights = "initial weights" if self.ckpt is None else self.ckpt
            title = f"{type(datamodule).__name__}, {model.adjacency}, {weights}"
            console.print_metrics(results, title)

    def _experiment(self) -> str:
        if self.command.experiment is not None:
            return self.command.experiment
        if self.ckpt is not None:  # runs/<experiment>/<run>/checkpoints/last.ckpt
            return self.ckpt.resolve().parent.parent.parent.name
        return str(type(self.model).__name__.lower())

    def _callbacks(self, folder: Path, settings: Any, own: list[Callback]) -> list[Callback]:
        """Return the callbacks of every run, beside those of the settings."""
        callbacks = [
            StoreConfig(folder, self._resolved()),
            ExactResume(),
            StopOnSignal(folder),
            StoreTokenizer(folder),
            LogFigures(),
        ]
        if not self.shows_bar:
            callbacks.append(console.PrintProgress())
        if self.config.fit.reset == "lr":
            callbacks.append(ResetLearningRate())
        has_own = any(isinstance(callback, ModelCheckpoint) for callback in own)
        if settings.enable_checkpointing is not False:
            if not has_own and settings.limit_val_batches != 0:
                callbacks.append(keep_best(folder))
            callbacks.append(SaveLast(folder))
        return callbacks

    def _resolved(self) -> str:
        """Return all settings of this run as YAML, sizes included."""
        config = self.config.fit.clone()
        for key in _NOT_STORED:
            config.pop(key, None)
        return str(self._parser("fit").dump(config, skip_validation=True, skip_unset=False))


def run(argv: list[str]) -> int:
    """Run one of Lightning's commands and return the exit code.

    Raises:
        UsageError: when the settings, the checkpoint or the data are wrong.
    """
    if (text := setting_help(argv)) is not None:
        print(text, end="")
        return 0
    command = read_command(argv)
    ckpt = None if command.ckpt is None else find_checkpoint(command.ckpt, command.name)
    previous, parent = signal.getsignal(signal.SIGINT), os.getppid()
    try:
        with console.quiet(), plain_errors():
            CLI(command, ckpt)
    except TrainingStopped as stop:
        if is_first_process():
            print(f"\nstopped; resume with: graphformer fit --ckpt {stop.path}")
        return 128 + stop.signal_number
    except RuntimeError as error:
        sentence = lost_process(error)
        if sentence is None:
            raise
        if is_first_process() or os.getppid() != parent:  # the first process, or if that is gone
            print(f"graphformer: {sentence}", file=sys.stderr)
        return 1
    except SystemExit as end:  # 0 after --help; Lightning exits with 1 on the second Ctrl-C
        return 130 if end.code == 1 else int(end.code or 0)
    finally:
        signal.signal(signal.SIGINT, previous)
    return 0


def _flat(config: Any) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in _NOT_STORED}
