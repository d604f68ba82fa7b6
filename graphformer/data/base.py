"""What all data modules share: three splits of a data set, each with its batches."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from typing import ClassVar

import lightning.pytorch as pl

from graphformer.data.loader import BatchLoader


class DataModule(pl.LightningDataModule, ABC):
    """A data set in the splits 'train', 'val' and 'test'; predictions are made for the test split.

    Where it can be split in several ways, `fold_setting` names the argument that chooses one of
    `num_folds`.
    """

    fold_setting: ClassVar[str | None] = None

    @abstractmethod
    def batches(self, split: str) -> BatchLoader:
        """Return the batches of a split, shuffled where it is the training split."""

    def train_dataloader(self) -> BatchLoader:
        """Return the training batches."""
        return self.batches("train")

    def val_dataloader(self) -> BatchLoader:
        """Return the validation batches."""
        return self.batches("val")

    def test_dataloader(self) -> BatchLoader:
        """Return the test batches."""
        return self.batches("test")

    def predict_dataloader(self) -> BatchLoader:
        """Return the test batches."""
        return self.batches("test")


def run_seed() -> int:
    """The seed that `lightning.pytorch.seed_everything` was given last; 0 if it was not called."""
    return int(os.environ.get("PL_GLOBAL_SEED", "0"))
