"""Batches by index: a seeded order that a resumed run repeats, and the loader that follows it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch_geometric.data import Data


class BatchDataset(Protocol):
    """Items that are fetched a batch at a time: `dataset[index [B]] -> Data`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Tensor) -> Data: ...


class BatchSampler:
    """Index tensors [B] of one epoch after another, the same for the same (seed, epoch).

    With `num_batches` an epoch is that many batches drawn with replacement; otherwise it visits
    every item once, in order or shuffled. In a distributed run each process gets its own share,
    and all get equally many when `shuffle` or `num_batches` is set.
    """

    def __init__(
        self,
        num_items: int,
        batch_size: int,
        *,
        shuffle: bool = False,
        num_batches: int | None = None,
        seed: int = 0,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}: expected 1 or more.")
        if num_batches is not None and num_batches < 1:
            raise ValueError(f"The number of batches is {num_batches}: expected 1 or more.")
        self.num_items, self.batch_size = num_items, batch_size
        self.shuffle, self.num_batches, self.seed = shuffle, num_batches, seed
        self.epoch = 0
        self._skip = (0, 0)  # (epoch, batches of it that are done already)
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        self.rank = torch.distributed.get_rank() if distributed else 0
        self.world = torch.distributed.get_world_size() if distributed else 1

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration gives; Lightning calls this by itself."""
        self.epoch = epoch

    def skip(self, epoch: int, batches: int) -> None:
        """Leave out the first `batches` of `epoch` the next time that it is iterated."""
        self._skip = (epoch, batches)

    def __len__(self) -> int:
        if self.num_batches is not None:
            return self.num_batches
        return -(-len(self._share(np.arange(self.num_items))) // self.batch_size)

    def __iter__(self) -> Iterator[Tensor]:
        order = torch.from_numpy(self._share(self._order()))
        for batch in range(self.take_skip(), len(self)):
            yield order[batch * self.batch_size : (batch + 1) * self.batch_size]

    def take_skip(self) -> int:
        """Return how many batches of this epoch are done, and forget it."""
        epoch, batches = self._skip
        self._skip = (0, 0)
        return batches if epoch == self.epoch else 0

    def _order(self) -> np.ndarray:
        generator = np.random.default_rng((self.seed, self.epoch))
        if self.num_batches is not None:
            draws = self.num_batches * self.batch_size * self.world
            return generator.integers(self.num_items, size=draws)
        if self.shuffle:
            return generator.permutation(self.num_items)
        return np.arange(self.num_items)

    def _share(self, order: np.ndarray) -> np.ndarray:
        if self.shuffle:  # ranks that train must take equally many steps
            order = order[: len(order) - len(order) % self.world]
        return order[self.rank :: self.world]


class BatchLoader:
    """Iterate over a data set's batches; `state_dict` lets a run resume in the middle of an epoch.

    Batches are cut by index in the training process, which is quicker than workers where the
    data is in memory; `num_workers` is for data sets that decode files.
    """

    batch_sampler = None  # as in a DataLoader whose sampler gives whole batches: Lightning asks

    def __init__(
        self, dataset: BatchDataset, sampler: BatchSampler, *, num_workers: int = 0
    ) -> None:
        if num_workers < 0:
            raise ValueError(f"num_workers is {num_workers}: expected 0 or more.")
        self.dataset, self.sampler, self.num_workers = dataset, sampler, num_workers
        self._given = (0, 0)  # (epoch, batches of it that were given out)

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Data]:
        # A generator: nothing is drawn before the first batch, when Lightning has set the epoch.
        epoch, done = self.sampler.epoch, self.sampler.take_skip()
        self.sampler.skip(epoch, done)
        for batch in self._batches():
            done += 1
            self._given = (epoch, done)
            yield batch

    def _batches(self) -> Iterator[Data]:
        if self.num_workers == 0:
            return (self.dataset[index] for index in self.sampler)
        return self._from_workers()

    def _from_workers(self) -> Iterator[Data]:
        loader = DataLoader(
            _AsTorchDataset(self.dataset),
            sampler=self.sampler,
            batch_size=None,
            num_workers=self.num_workers,
            generator=torch.Generator(),  # else it draws from, and so moves, the global one
        )
        for batch in loader:
            if isinstance(batch, ValueError):
                raise batch
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Return the epoch and the number of its batches that were given out."""
        epoch, batches = self._given
        return {"epoch": epoch, "batches": batches}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue behind the batches that `state` counts."""
        self.sampler.skip(state["epoch"], state["batches"])


class _AsTorchDataset(Dataset[Any]):
    """Hands what is wrong with the data over as it is: torch would wrap a worker's traceback in."""

    def __init__(self, dataset: BatchDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, index: Tensor) -> Data | ValueError:
        try:
            return self.dataset[index]
        except ValueError as error:
            return error
