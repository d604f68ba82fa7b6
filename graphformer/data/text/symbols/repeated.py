"""`RepeatedSymbols`: sequences of random symbols that occur twice, a test of long copies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from graphformer.data.base import SPLITS, DataModule
from graphformer.data.batch import IGNORE_INDEX, Batch, pack_nodes
from graphformer.data.loader import BatchLoader, BatchSampler


class RepeatedSymbols(DataModule):
    """Sequences 0 w 0 w of random symbols w, whose second half is predicted token by token.

    A batch has x (ids, [N]), y (the ids that follow in the second half, -100 elsewhere, [N]), pos
    [N] and lengths. Training goes through one length after another; validation and test have the
    last one. An epoch is the whole training, and a second one would repeat it.

    Args:
        lengths: tokens of a sequence in each stage of training, even numbers from 4 on.
        steps: number of batches in each stage.
        num_symbols: number of distinct symbols of w, 1 to `num_symbols`.
        max_tokens: of a batch; a longer sequence is a batch of its own.
        num_samples: sequences of validation, and of the test.
        seed: of the symbols.

    Raises:
        ValueError: when a number is out of range, or stages have lengths or steps only.

    Source: Kitaev et al., 2020, "Reformer", section 5 (synthetic task).
    """

    def __init__(
        self,
        lengths: Sequence[int] = (4096,),
        steps: Sequence[int] = (1000,),
        *,
        num_symbols: int = 127,
        max_tokens: int = 4096,
        num_samples: int = 8,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not lengths or len(lengths) != len(steps):
            raise ValueError(
                f"steps: got {len(steps)} numbers for {len(lengths)} lengths, expected one for each"
            )
        if any(length < 4 or length % 2 for length in lengths):
            raise ValueError(f"lengths: got {list(lengths)}, expected even numbers from 4 on")
        numbers = {
            "num_symbols": num_symbols,
            "max_tokens": max_tokens,
            "num_samples": num_samples,
            "steps": min(steps),
        }
        for name, number in numbers.items():
            if number < 1:
                raise ValueError(f"{name}: got {number}, expected 1 or more")
        self.save_hyperparameters(logger=False)
        self.lengths, self.steps = tuple(lengths), tuple(steps)
        self.num_symbols, self.max_tokens = num_symbols, max_tokens
        self.num_samples, self.seed = num_samples, seed
        self.vocab_size = num_symbols + 1

    def batches(self, split: str) -> BatchLoader:
        """Return the batches of all stages in order, or those of the last length."""
        counts = [max(1, self.max_tokens // length) for length in self.lengths]
        if split == "train":
            shapes = np.repeat(np.stack([counts, self.lengths], axis=1), self.steps, axis=0)
        else:
            full, rest = divmod(self.num_samples, counts[-1])
            sizes = [counts[-1]] * full + [rest] * (rest > 0)
            shapes = np.array([(size, self.lengths[-1]) for size in sizes])
        items = _Repeated(shapes, self.num_symbols, (self.seed, SPLITS.index(split)))
        return BatchLoader(items, BatchSampler(len(items), 1))


class _Repeated:
    """Batches of repeated sequences, each drawn from a seed of its own.

    Args:
        shapes: sequences and tokens of a sequence of each batch, [n, 2].
        num_symbols: of the sequences.
        seed: with the number of the batch, that of its symbols.
    """

    def __init__(self, shapes: np.ndarray, num_symbols: int, seed: tuple[int, int]) -> None:
        self.shapes, self.num_symbols, self.seed = shapes, num_symbols, seed

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, index: Tensor) -> Batch:
        number = int(index)
        count, length = self.shapes[number].tolist()
        generator = np.random.default_rng((*self.seed, number))
        half = np.zeros((count, length // 2), np.int64)
        half[:, 1:] = generator.integers(1, self.num_symbols + 1, (count, length // 2 - 1))
        batch = pack_nodes(np.tile(half, 2).flatten(), np.full(count, length))
        labels = np.full((count, length), IGNORE_INDEX)
        labels[:, length // 2 : -1] = half[:, 1:]
        batch.y = torch.from_numpy(labels.flatten())
        return batch
