"""Callbacks of every training run: stored settings and tokenizer, exact resume, stop on Ctrl-C."""

from __future__ import annotations

import random
import signal
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint, EarlyStopping, ModelCheckpoint

from graphformer.data.loader import BatchLoader, process_ranks
from graphformer.ops.common import notice
from graphformer.tasks.stored_settings import CONFIG_KEY


class StoreConfig(Callback):
    """Writes the settings, as YAML, into the run's folder and into every checkpoint."""

    def __init__(self, folder: Path, text: str) -> None:
        self.folder = folder
        self.text = text

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Write `config.yaml`, after the loggers are created, which refuse a folder with files."""
        if trainer.is_global_zero:
            (self.folder / "config.yaml").write_text(self.text, encoding="utf-8")

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the settings to the checkpoint."""
        checkpoint[CONFIG_KEY] = self.text


class StoreTokenizer(Callback):
    """Writes the data's tokenizer, if it has one, into the run's folder as `tokenizer.json`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the file, after the tokenizer of a checkpoint has replaced the data's own."""
        data: Any = getattr(trainer, "datamodule", None)
        tokenizer = getattr(data, "tokenizer", None)
        if tokenizer is not None and trainer.is_global_zero:
            tokenizer.save(self.folder / "tokenizer.json")


class ExactResume(Callback):
    """Stores the state of all random generators and the position in the training data.

    A resumed run then draws the same numbers and batches as one that was not interrupted.
    Lightning (2.6) stores the position too, but does not restore it if the learning-rate schedule
    has asked for the number of steps before.

    Several processes begin with the states that the generators have when this object is made, as
    one process does. Lightning resets them to the seed when it connects the processes.
    """

    def __init__(self) -> None:
        self._first_state = self._own_state()
        self._random_states: dict[str, Any] | None = None
        self._loader_states: list[dict[str, Any]] = []
        self._strict: list[EarlyStopping] = []

    def state_dict(self) -> dict[str, Any]:
        """Return the random states as plain types and tensors, which load with weights_only.

        Those of all ranks are in the list `ranks`, because they may have drawn different numbers.
        """
        state = self._own_state()
        _, world_size = process_ranks()
        if world_size == 1:
            return state
        ranks: list[Any] = [None] * world_size
        torch.distributed.all_gather_object(ranks, state)
        return {**ranks[0], "ranks": ranks}

    def _own_state(self) -> dict[str, Any]:
        _, keys, *position = np.random.get_state()
        version, internal, gauss = random.getstate()
        return {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "numpy": [torch.from_numpy(np.asarray(keys, dtype=np.int64)), *position],
            "python": [version, list(internal), gauss],
        }

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Set the generators of each of several processes to the states of one process."""
        if stage == "fit" and trainer.world_size > 1:
            _set_random_states(self._first_state)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the random states until training starts."""
        self._random_states = state_dict

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the position in the data until training starts."""
        loops = checkpoint["loops"]["fit_loop"]["state_dict"]
        self._loader_states = loops.get("combined_loader", [])

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore both; nothing between here and the first batch draws a number."""
        if trainer.ckpt_path is not None:
            self._tolerate_missing_metrics(trainer)
        if self._loader_states and trainer.train_dataloader is not None:
            trainer.train_dataloader.load_state_dict(self._loader_states[0])
            _restore_progress(trainer, self._loader_states[0])
        _count_epoch_once(trainer)
        if self._random_states is None:
            return
        state, self._random_states = self._random_states, None
        ranks = state.get("ranks", [state])
        state = ranks[trainer.global_rank % len(ranks)]
        _set_random_states(state)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Require the monitored metrics again."""
        for callback in self._strict:
            callback.strict = True
        self._strict.clear()

    def _tolerate_missing_metrics(self, trainer: pl.Trainer) -> None:
        """Let early stopping skip checks until the first validation.

        A run that is resumed at the end of an epoch calls `on_train_epoch_end` first, without
        metrics.
        """
        for callback in trainer.early_stopping_callbacks:
            if callback is not None and callback.strict:
                callback.strict = False
                self._strict.append(callback)


def _set_random_states(state: dict[str, Any]) -> None:
    """Set the generators of torch, numpy and Python to what `_own_state` returned."""
    torch.set_rng_state(state["torch"])
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    keys, *position = state["numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), *position))
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))


def _restore_progress(trainer: pl.Trainer, state: dict[str, int]) -> None:
    """Set the number of batches done in this epoch, which changes with the number of ranks."""
    loader = trainer.train_dataloader
    if not isinstance(loader, BatchLoader):
        return
    change = loader.batches_done(state) - state["batches"]
    progress = trainer.fit_loop.epoch_loop.batch_progress.current
    for name in ("ready", "started", "processed", "completed"):
        setattr(progress, name, getattr(progress, name) + change)


def _count_epoch_once(trainer: pl.Trainer) -> None:
    """Keep the number of the epoch when a run with `max_steps` resumes at the end of an epoch.

    Lightning (2.6) enters that epoch again, without batches, and counts it as processed twice; the
    order of the next epoch would be that of the one after it.
    """
    if trainer.fit_loop.restarted_on_epoch_end:
        progress = trainer.fit_loop.epoch_progress
        for tracker in (progress.current, progress.total):
            tracker.processed -= 1  # type: ignore[attr-defined]


class ResetLearningRate(Callback):
    """Lets a resumed run continue at the learning rate of its settings, not the checkpoint's.

    The schedule goes on at the step of the checkpoint; the moments of the optimiser are kept.
    """

    def __init__(self) -> None:
        self._base_lrs: list[list[Any]] = []

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the rates of the settings, before the checkpoint's state replaces them."""
        self._base_lrs = [list(each.scheduler.base_lrs) for each in trainer.lr_scheduler_configs]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set the rates of the settings, at the schedule's factor of the current step."""
        for config, base_lrs in zip(trainer.lr_scheduler_configs, self._base_lrs, strict=True):
            scheduler: Any = config.scheduler
            scheduler.base_lrs = base_lrs
            for group, base, factor in zip(
                scheduler.optimizer.param_groups, base_lrs, scheduler.lr_lambdas, strict=True
            ):
                group["initial_lr"], group["lr"] = base, base * factor(scheduler.last_epoch)
            scheduler._last_lr = [group["lr"] for group in scheduler.optimizer.param_groups]


class TrainingStopped(Exception):  # noqa: N818 - not an error
    """Training has stopped on a signal, after an optimiser step and with a checkpoint.

    Attributes:
        path: the checkpoint.
        signal_number: the signal.
    """

    def __init__(self, path: Path, signal_number: int) -> None:
        super().__init__(path, signal_number)
        self.path, self.signal_number = path, signal_number


class SaveLast(Checkpoint):
    """Writes `checkpoints/last.ckpt` after every epoch and every validation within an epoch.

    As a `Checkpoint`, it runs after all other callbacks, so that their states are up to date.
    Nothing is written between the batches of one accumulation: the partial gradient is not part of
    a checkpoint.
    """

    def __init__(self, folder: Path) -> None:
        self.path = last_checkpoint(folder)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the checkpoint after a validation within an epoch."""
        is_in_fit = trainer.state.fn == "fit" and not trainer.sanity_checking
        if is_in_fit and not trainer.is_last_batch and is_after_step(trainer):
            trainer.save_checkpoint(self.path, weights_only=False)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the checkpoint after an epoch and its validation."""
        trainer.save_checkpoint(self.path, weights_only=False)


class StopOnSignal(Callback):
    """On Ctrl-C or SIGTERM, writes `checkpoints/last.ckpt` after the optimiser step and stops.

    A second signal stops at once, without a checkpoint. In a distributed run, one process that
    receives the signal stops all of them.
    """

    def __init__(self, folder: Path) -> None:
        self.path = last_checkpoint(folder)
        self._requested = 0  # number of the signal
        self._previous: dict[int, Any] = {}

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Install the handler of Ctrl-C."""
        self._install(signal.SIGINT)

    def on_sanity_check_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Install the handler of SIGTERM instead of Lightning's, which stops without checkpoint."""
        self._install(signal.SIGTERM)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Install the handler of SIGTERM if there was no sanity check."""
        self._install(signal.SIGTERM)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Restore the previous handler of Ctrl-C; Lightning restores that of SIGTERM."""
        if signal.SIGINT in self._previous:
            signal.signal(signal.SIGINT, self._previous[signal.SIGINT])

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        """Stop after a training batch if requested."""
        self._stop_if_requested(trainer)

    def on_validation_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        """Stop after a validation batch if requested, except in the sanity check."""
        if not trainer.sanity_checking:
            self._stop_if_requested(trainer)

    def _install(self, number: signal.Signals) -> None:
        previous = signal.signal(number, self._request)
        if previous != self._request:
            self._previous.setdefault(number, previous)

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self._requested:
            raise KeyboardInterrupt
        self._requested = number

    def _stop_if_requested(self, trainer: pl.Trainer) -> None:
        if not is_after_step(trainer):
            return
        # The signal may reach the processes of a distributed run at different batches, or one only.
        if trainer.strategy.reduce_boolean_decision(bool(self._requested), all=False):
            trainer.save_checkpoint(self.path, weights_only=False)
            raise TrainingStopped(self.path, self._requested or signal.SIGINT)


def is_after_step(trainer: pl.Trainer) -> bool:
    """Whether the last training batch ended with an optimiser step, without a partial gradient."""
    return not trainer.fit_loop._should_accumulate()


def last_checkpoint(folder: Path) -> Path:
    """Return the path of the last checkpoint in the folder of a run."""
    return folder / "checkpoints" / "last.ckpt"


def keep_best(folder: Path) -> ModelCheckpoint:
    """Return a callback that keeps the checkpoint of lowest `val/loss` as `best.ckpt`."""
    return ModelCheckpoint(
        folder / "checkpoints",
        filename="best",
        enable_version_counter=False,
        monitor="val/loss",
    )


def last_of_each(callbacks: list[Callback]) -> list[Callback]:
    """Return the callbacks without those that a later one replaces, which are reported.

    A callback replaces earlier ones of its class, so that `--trainer.callbacks+=EarlyStopping` with
    another metric replaces that of a file. There may be several ModelCheckpoints: one replaces an
    earlier one that writes the same file.
    """
    kept = []
    for i, callback in enumerate(callbacks):
        if any(_replaces(later, callback) for later in callbacks[i + 1 :]):
            notice(f"trainer.callbacks: a later one replaces {callback.state_key}")
        else:
            kept.append(callback)
    return kept


def _replaces(later: Callback, earlier: Callback) -> bool:
    if isinstance(later, ModelCheckpoint) and isinstance(earlier, ModelCheckpoint):
        return (later.dirpath, later.filename) == (earlier.dirpath, earlier.filename)
    return type(later) is type(earlier)
