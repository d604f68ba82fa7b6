"""`DataModule`, the base class of all data sets: the splits train, val and test as batches."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import lightning.pytorch as pl
import torch
from torch import Tensor

from graphformer.batch_type import BatchLike
from graphformer.data.loader import BatchLoader, process_ranks

SPLITS = ("train", "val", "test")


class DataModule(pl.LightningDataModule, ABC):
    """A data set with the splits "train", "val" and "test"; `predict` uses the test split.

    A subclass calls `self.save_hyperparameters(logger=False)` in its constructor. Paths are saved
    as strings, because `torch.load(weights_only=True)` refuses `pathlib` objects in a checkpoint.

    Attributes:
        fold_setting: for data with several predefined splits, the name of the constructor's
            argument that selects one of `num_folds`; else None.
    """

    predict_split = "test"
    """The split whose batches `predict` uses."""
    fold_setting: ClassVar[str | None] = None

    @abstractmethod
    def batches(self, split: str) -> BatchLoader:
        """Return the batches of "train" (shuffled), "val" or "test"."""

    def pack(self, inputs: Sequence[Any]) -> BatchLike:
        """Return new inputs as a batch, prepared as those of training are, without labels.

        This works before `setup`, if the state of a checkpoint is loaded.

        Args:
            inputs: texts, images or graphs, as the data module has them.

        Raises:
            TypeError: when the data module has no inputs that can be prepared one by one.
        """
        raise TypeError(
            f"inputs: got data of {type(self).__name__}, which does not prepare new inputs; pass "
            "batches to the network itself"
        )

    def sample_names(self, split: str) -> list[str]:
        """Return the names of a split's samples, such as files, for predictions; [] without any."""
        return []

    def sample_numbers(self, split: str) -> list[int]:
        """Return the position of a split's samples in the file or data set, from 0, after `setup`.

        The list is empty where the samples of a split are those of a file of its own, in its order.
        """
        return []

    def train_labels(self) -> Tensor:
        """Return the labels of the training split after `setup`, [rows] or [rows, K].

        This reads all batches, unless a subclass has the labels in memory.

        Raises:
            ValueError: when the batches have no labels.
        """
        loader = self.batches("train")
        loader.sampler.shard(0, 1)
        return torch.cat([_labels(batch, type(self).__name__) for batch in loader])

    def train_dataloader(self) -> BatchLoader:
        """Return the batches of the training split."""
        return self._shard(self.batches("train"))

    def val_dataloader(self) -> BatchLoader:
        """Return the batches of the validation split."""
        return self._shard(self.batches("val"))

    def test_dataloader(self) -> BatchLoader:
        """Return the batches of the test split."""
        return self._shard(self.batches("test"))

    def predict_dataloader(self) -> BatchLoader:
        """Return the batches to predict, those of `predict_split`."""
        return self._shard(self.batches(self.predict_split))

    def __str__(self) -> str:
        """Return the class and its settings; Lightning's needs a `len` of each batch's data set."""
        settings = ", ".join(f"{name}={value!r}" for name, value in self.hparams.items())
        return f"{type(self).__name__}({settings})"

    def _shard(self, loader: BatchLoader) -> BatchLoader:
        """Give a loader the share of this rank."""
        loader.sampler.shard(*self._ranks())
        return loader

    def _ranks(self) -> tuple[int, int]:
        """Return the rank among those that train on different batches, and their number.

        They are fewer than all where several processes share one model, as in tensor parallelism.
        """
        strategy = None if self.trainer is None else self.trainer.strategy
        ranks = getattr(strategy, "distributed_sampler_kwargs", None)
        return process_ranks() if ranks is None else (ranks["rank"], ranks["num_replicas"])

    def _set_hparams(self, hp: Any) -> None:
        # Called by Lightning's save_hyperparameters with the constructor's arguments.
        plain = {n: os.fspath(v) if isinstance(v, os.PathLike) else v for n, v in dict(hp).items()}
        super()._set_hparams(plain)


def _labels(batch: BatchLike, name: str) -> Tensor:
    """Return the labels of a batch of training; those of edges if it has some."""
    for field, mask in (("edge_label", "train_edge_mask"), ("y", "train_mask")):
        labels, chosen = getattr(batch, field, None), getattr(batch, mask, None)
        if labels is not None:
            found: Tensor = labels if chosen is None else labels[chosen]
            return found
    raise ValueError(f"{name}: got batches without y, expected labels; choose data with classes")


def run_seed() -> int:
    """Return the seed of the last `lightning.pytorch.seed_everything`, or 0 without such a call."""
    return int(os.environ.get("PL_GLOBAL_SEED", "0"))
