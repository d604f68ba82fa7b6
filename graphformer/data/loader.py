"""`BatchSampler`, a seeded order of item indices, and `BatchLoader`, which a run can resume."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, SequentialSampler
from torch_geometric.data import Data


class BatchDataset(Protocol):
    """Items that are fetched by the batch: `dataset[index [B]]` is a `Data` of B samples."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Tensor) -> Data: ...


class BatchSampler(SequentialSampler):  # a sampler that `overfit_batches` of Lightning keeps
    """Yields index tensors [B] of one epoch; the order depends on (seed, epoch) only.

    An epoch contains every item once, in order or shuffled; with `num_batches` it is that many
    batches drawn with replacement. In a distributed run of W ranks, batch k of all ranks together
    is batch k of one process with `batch_size` * W, and all ranks yield equally many batches. A
    rank without an item left yields one of another rank as padding; see `num_filled`.

    Args:
        num_items: number of items n; indices are 0 to n - 1.
        batch_size: items in a batch; the last batch may have fewer.
        shuffle: whether every epoch has another order.
        num_batches: batches in an epoch, drawn with replacement; None visits every item once.
        seed: of the order.

    Raises:
        ValueError: when batch_size or num_batches is below 1.
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
            raise ValueError(f"batch_size: got {batch_size}, expected 1 or more")
        if num_batches is not None and num_batches < 1:
            raise ValueError(f"num_batches: got {num_batches}, expected 1 or more, or None")
        self.num_items, self.batch_size = num_items, batch_size
        self.shuffle, self.num_batches, self.seed = shuffle, num_batches, seed
        self.epoch = 0
        self.fixed = False
        """Whether every epoch has the order of the first, as for `overfit_batches`."""
        self._skip = (0, 0)  # (epoch, number of its first batches to skip)
        self.rank, self.world_size = process_ranks()

    def shard(self, rank: int, world_size: int) -> None:
        """Set the rank and the number of ranks; by default they are those of the process group."""
        self.rank, self.world_size = rank, world_size

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration; Lightning calls this before each epoch."""
        self.epoch = epoch

    @property
    def order_epoch(self) -> int:
        """The epoch whose order the next iteration has."""
        return 0 if self.fixed else self.epoch

    def skip(self, epoch: int, batches: int) -> None:
        """Skip the first `batches` batches of `epoch` in the next iteration over it."""
        self._skip = (epoch, batches)

    def __len__(self) -> int:
        if self.num_batches is not None:
            return self.num_batches
        return -(-self.num_items // self.step)

    @property
    def step(self) -> int:
        """Number of items that all ranks together take with one batch each."""
        return self.batch_size * self.world_size

    @property
    def num_filled(self) -> int:
        """Number of batches with items of this rank's share; the batches after them are padding."""
        if self.num_batches is not None:
            return self.num_batches
        return -(-len(range(self.rank, self.num_items, self.world_size)) // self.batch_size)

    def __iter__(self) -> Iterator[Tensor]:  # type: ignore[override]  # batches of indices
        order = torch.from_numpy(self.epoch_order())
        share = order[self.rank :: self.world_size]
        for batch in range(self.pop_skip(), len(self)):
            index = share[batch * self.batch_size : (batch + 1) * self.batch_size]
            yield index if len(index) else order[-1:]

    def pop_skip(self) -> int:
        """Return the number of batches of this epoch to skip, and reset it to 0."""
        epoch, batches = self._skip
        self._skip = (0, 0)
        return batches if epoch == self.epoch else 0

    def epoch_order(self) -> np.ndarray:
        """Return the item indices of this epoch, for all ranks together."""
        generator = np.random.default_rng((self.seed, self.order_epoch))
        if self.num_batches is not None:
            draws = self.num_batches * self.batch_size * self.world_size
            return generator.integers(self.num_items, size=draws)
        if self.shuffle:
            return generator.permutation(self.num_items)
        return np.arange(self.num_items)


class BatchLoader:
    """An iterable over the batches of a data set that can resume in the middle of an epoch.

    Without workers the batches are fetched in the training process, which is faster where the
    data is in memory; `num_workers` is for data sets that decode files.

    Args:
        dataset: indexed by the sampler's tensors.
        sampler: the order of the items.
        num_workers: number of worker processes.

    Raises:
        ValueError: when num_workers is negative.
    """

    batch_sampler = None  # Lightning reads it; None: `sampler` yields whole batches

    def __init__(
        self, dataset: BatchDataset, sampler: BatchSampler, *, num_workers: int = 0
    ) -> None:
        if num_workers < 0:
            raise ValueError(f"num_workers: got {num_workers}, expected 0 or more")
        self.dataset, self.sampler, self.num_workers = dataset, sampler, num_workers
        self._progress = (0, 0)  # (epoch, number of its batches that were yielded)

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Data]:
        # A generator, so that its body runs at the first batch, after Lightning has set the epoch.
        epoch, done = self.sampler.epoch, self.sampler.pop_skip()
        self.sampler.skip(epoch, done)
        set_epoch = getattr(self.dataset, "set_epoch", None)
        if set_epoch is not None:  # of samples that are augmented at random
            set_epoch(self.sampler.order_epoch)
        for batch in self._batches():
            done += 1
            self._progress = (epoch, done)
            yield batch if done <= self.sampler.num_filled else as_padding(batch)

    def _batches(self) -> Iterator[Data]:
        if self.num_workers == 0:
            return (self.dataset[index] for index in self.sampler)
        return self._from_workers()

    def _from_workers(self) -> Iterator[Data]:
        loader = DataLoader(
            _WorkerDataset(self.dataset),
            sampler=self.sampler,
            batch_size=None,
            num_workers=self.num_workers,
            generator=torch.Generator(),  # the default would draw from the global generator
        )
        for batch in loader:
            if isinstance(batch, ValueError):
                raise batch
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Return the epoch, the number of its batches that were yielded, and the items of each."""
        epoch, batches = self._progress
        return {"epoch": epoch, "batches": batches, "step": self.sampler.step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Resume after the items that `state` counts, perhaps with other batches or ranks.

        Items of a batch that only a part of the items are left of come once more.
        """
        self.sampler.skip(state["epoch"], self.batches_done(state))

    def batches_done(self, state: dict[str, int]) -> int:
        """Return the number of batches of this loader that have the items that `state` counts."""
        step = self.sampler.step
        done = state["batches"] * state.get("step", step)
        return len(self) if done >= len(self) * step else done // step


def process_ranks() -> tuple[int, int]:
    """Return the rank of this process in the process group, and its size; (0, 1) without one."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return 0, 1
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def as_padding(batch: Data) -> Data:
    """Return a copy of a batch that is marked as padding: its samples count nowhere."""
    marked = copy.copy(batch)
    marked.is_padding = True
    return marked


def is_padding(batch: object) -> bool:
    """Return whether a batch repeats samples of another rank, which count once only."""
    return bool(getattr(batch, "is_padding", False))


class _WorkerDataset(Dataset[Any]):
    """Returns a ValueError instead of raising it: torch adds the worker's traceback to one."""

    def __init__(self, dataset: BatchDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, index: Tensor) -> Data | ValueError:
        try:
            return self.dataset[index]
        except ValueError as error:
            return error
