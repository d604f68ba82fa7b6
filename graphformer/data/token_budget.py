"""Batches that hold as many samples as a budget of tokens and of edges allows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from graphformer.data.loader import BatchLoader, BatchSampler


class TokenBudgetSampler(BatchSampler):
    """Index tensors [B] of batches within a budget, the same for the same (seed, epoch).

    Every sample comes once an epoch. Every epoch has equally many batches, and so has every
    process of a distributed run as long as there are samples enough: what is too many is cut in
    two rather than left out. From epoch to epoch, samples change places with others of their size
    and batches change places with one another.

    Args:
        sizes: tokens of each sample [n].
        edges: edges of each sample [n]; by default all pairs of its tokens.
        max_tokens: the most tokens a batch.
        max_edges: the most edges a batch; None for any number.
        shuffle: another order every epoch.
        seed: of the order.

    Raises:
        ValueError: a sample is larger than the budget, or there is none.
    """

    def __init__(
        self,
        sizes: np.ndarray,
        *,
        max_tokens: int,
        edges: np.ndarray | None = None,
        max_edges: int | None = None,
        shuffle: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(len(sizes), 1, shuffle=shuffle, seed=seed)
        self.sizes = np.stack([sizes, sizes * sizes if edges is None else edges], axis=1)
        unlimited = int(self.sizes[:, 1].sum()) + 1
        self.budget = np.array([max_tokens, unlimited if max_edges is None else max_edges])
        self._check()
        generator = np.random.default_rng((seed, 1 << 32))  # no epoch's own
        self.slots = generator.permutation(len(sizes)) if shuffle else np.arange(len(sizes))
        self.cuts = self._cut()

    def __len__(self) -> int:
        return len(self._share(self.cuts[:-1]))

    def __iter__(self) -> Iterator[Tensor]:
        items, batches = self._items()
        for batch in self._share(batches)[self.take_skip() :]:
            yield torch.from_numpy(items[self.cuts[batch] : self.cuts[batch + 1]])

    def _items(self) -> tuple[np.ndarray, np.ndarray]:
        """This epoch's sample in every slot, and the order of the batches."""
        batches = np.arange(len(self.cuts) - 1)
        if not self.shuffle:
            return self.slots, batches
        generator = np.random.default_rng((self.seed, self.epoch))
        shuffled = generator.permutation(self.slots)
        items = np.empty_like(self.slots)
        items[_by_size(self.sizes[self.slots])] = shuffled[_by_size(self.sizes[shuffled])]
        return items, generator.permutation(batches)

    def _cut(self) -> np.ndarray:
        """Where batches begin, and the end: filled in turn, then cut until all ranks get one."""
        cuts, filled = [0], np.zeros(2, np.int64)
        for slot, size in enumerate(self.sizes[self.slots]):
            if slot > cuts[-1] and (filled + size > self.budget).any():
                cuts.append(slot)
                filled = np.zeros(2, np.int64)
            filled = filled + size
        ends = np.array([*cuts, len(self.slots)])
        while (len(ends) - 1) % self.world and np.diff(ends).max() > 1:
            largest = int(np.diff(ends).argmax())
            ends = np.insert(ends, largest + 1, (ends[largest] + ends[largest + 1]) // 2)
        return ends

    def _check(self) -> None:
        if not len(self.sizes):
            raise ValueError("There is no sample to make batches of: look at the data's path.")
        for name, size, most in zip(
            ("tokens", "edges"), self.sizes.max(axis=0), self.budget, strict=True
        ):
            if size > most:
                raise ValueError(
                    f"max_{name} is {most}, but sample "
                    f"{int(self.sizes[:, int(name == 'edges')].argmax())} has {size} {name}: "
                    "raise it, or set max_length to cut samples or leave them out."
                )


def _by_size(sizes: np.ndarray) -> np.ndarray:
    """The order that sorts by size and leaves equals as they are."""
    return np.lexsort((sizes[:, 1], sizes[:, 0]))


class Sized(Protocol):
    """Samples that know their sizes."""

    lengths: np.ndarray
    num_edges: np.ndarray | None

    def __len__(self) -> int: ...

    def __getitem__(self, index: Tensor) -> Data: ...


def budget_loader(
    samples: Sized,
    split: str,
    *,
    max_tokens: int,
    max_edges: int | None,
    seed: int,
    pairs: bool = False,
) -> BatchLoader:
    """Return batches within a budget of tokens and edges, shuffled for the split 'train'.

    What counts as edges are the samples' own, or else, or with `pairs`, all pairs of tokens.

    Raises ValueError for a split without samples, and for a sample larger than the budget.
    """
    if not len(samples):
        raise ValueError(
            f"The {split} split of the data has no samples: give it more, a file of its own, or "
            "another share."
        )
    order = TokenBudgetSampler(
        samples.lengths,
        edges=None if pairs else samples.num_edges,
        max_tokens=max_tokens,
        max_edges=max_edges,
        shuffle=split == "train",
        seed=seed,
    )
    return BatchLoader(samples, order)
