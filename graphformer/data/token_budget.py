"""`TokenBudgetSampler`: batches of as many samples as fit a budget of tokens and of edges."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from graphformer.data.loader import BatchLoader, BatchSampler


class TokenBudgetSampler(BatchSampler):
    """Yields index tensors [B] whose samples fit a budget of tokens and of edges.

    Each sample appears once per epoch, and the order depends on (seed, epoch) only. The batches do
    not depend on the number of ranks: W ranks take the next W of them, so that a step of W ranks is
    one of a process that accumulates W batches. If their number is not divisible by W, ranks
    without a batch left yield one of another rank as padding. Shuffling swaps samples of equal size
    and permutes the batches.

    Args:
        sizes: tokens of each sample, [n].
        edges: edges of each sample, [n]; by default the square of its tokens, all pairs.
        max_tokens: maximum number of tokens in a batch.
        max_edges: maximum number of edges in a batch; None: unlimited.
        shuffle: whether every epoch has another order.
        seed: of the order.

    Raises:
        ValueError: when there are no samples, or when one exceeds the budget alone.
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
        # The batches are cut once, along fixed slots; an epoch only permutes samples among slots
        # of equal size, so that every batch stays within the budget.
        generator = np.random.default_rng((seed, 1 << 32))  # a stream that no epoch uses
        self.slots = generator.permutation(len(sizes)) if shuffle else np.arange(len(sizes))
        self.bounds = self._cut_batches()

    def __len__(self) -> int:
        return -(-self._total // self.world_size)

    @property
    def step(self) -> int:
        """Number of batches that all ranks together take at once."""
        return self.world_size

    @property
    def num_filled(self) -> int:
        """Number of batches of this rank's share; the batches after them are padding."""
        return len(range(self.rank, self._total, self.world_size))

    def __iter__(self) -> Iterator[Tensor]:  # type: ignore[override]
        items, batches = self._permuted()
        for number in range(self.pop_skip(), len(self)):
            batch = batches[min(number * self.world_size + self.rank, self._total - 1)]
            yield torch.from_numpy(items[self.bounds[batch] : self.bounds[batch + 1]])

    @property
    def _total(self) -> int:
        """Number of batches of all ranks together."""
        return len(self.bounds) - 1

    def _permuted(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the sample in each slot [n] and the order of the batches in this epoch."""
        batches = np.arange(self._total)
        if not self.shuffle:
            return self.slots, batches
        generator = np.random.default_rng((self.seed, self.order_epoch))
        shuffled = generator.permutation(self.slots)
        items = np.empty_like(self.slots)
        items[_argsort_by_size(self.sizes[self.slots])] = shuffled[
            _argsort_by_size(self.sizes[shuffled])
        ]
        return items, generator.permutation(batches)

    def _cut_batches(self) -> np.ndarray:
        """Return the first slot of each batch and the end, [batches + 1]; filled greedily."""
        firsts, filled = [0], np.zeros(2, np.int64)
        for slot, size in enumerate(self.sizes[self.slots]):
            if slot > firsts[-1] and (filled + size > self.budget).any():
                firsts.append(slot)
                filled = np.zeros(2, np.int64)
            filled = filled + size
        return np.array([*firsts, len(self.slots)])

    def _check(self) -> None:
        if not len(self.sizes):
            raise ValueError(
                "sizes: got no samples, expected one or more; check the path of the data"
            )
        for column, name in enumerate(("tokens", "edges")):
            limit, size = self.budget[column], self.sizes[:, column].max()
            if size > limit:
                raise ValueError(
                    f"max_{name}: got {limit}, but sample {int(self.sizes[:, column].argmax())} "
                    f"has {size} {name}; raise it, or set max_length to shorten or drop samples"
                )


def _argsort_by_size(sizes: np.ndarray) -> np.ndarray:
    """Return the stable order by tokens, then edges; sizes [n, 2]."""
    return np.lexsort((sizes[:, 1], sizes[:, 0]))


class SizedSamples(Protocol):
    """A data set with the sizes of its samples, as `Ragged`."""

    lengths: np.ndarray
    """Tokens of each sample, [n]."""
    num_edges: np.ndarray | None
    """Edges of each sample, [n], if it has edges of its own."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Tensor) -> Data: ...


def budget_loader(
    samples: SizedSamples,
    split: str,
    *,
    max_tokens: int,
    max_edges: int | None,
    seed: int,
    pairs: bool = False,
) -> BatchLoader:
    """Return the batches of a split within a budget of tokens and edges, "train" shuffled.

    Args:
        samples: of the split.
        split: its name.
        max_tokens, max_edges: of a batch, see `TokenBudgetSampler`.
        seed: of the order.
        pairs: whether to count all pairs of a sample's tokens as its edges, even where it has
            edges of its own.

    Raises:
        ValueError: when the split has no samples, or when a sample exceeds the budget.
    """
    if not len(samples):
        raise ValueError(
            f"the {split} split of the data has no samples; add some, set its path, or raise its "
            "fraction"
        )
    sampler = TokenBudgetSampler(
        samples.lengths,
        edges=None if pairs else samples.num_edges,
        max_tokens=max_tokens,
        max_edges=max_edges,
        shuffle=split == "train",
        seed=seed,
    )
    return BatchLoader(samples, sampler)
