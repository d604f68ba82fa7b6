"""Chance that depends on nothing but a seed and the place in training, so that it is repeatable."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

if TYPE_CHECKING:
    import lightning.pytorch as pl


def batch_generator(
    task: pl.LightningModule, seed: int, batch_idx: int, *, training: bool
) -> np.random.Generator:
    """A generator of random numbers for a batch, the same for a run that is resumed.

    In training it differs for every epoch, batch and process; in evaluation it is the same for a
    batch whatever the epoch, so that the figures of two validations can be compared.
    """
    epoch = task.current_epoch + 1 if training else 0
    return np.random.default_rng((seed, epoch, batch_idx, task.global_rank))


def sample_generators(x: Tensor, lengths: tuple[int, ...], seed: int) -> list[np.random.Generator]:
    """A generator for each sample that depends on its tokens x [N] alone: for static masks."""
    rows = np.split(x.cpu().numpy(), np.cumsum(lengths)[:-1])
    return [np.random.default_rng((seed, zlib.crc32(row.tobytes()))) for row in rows]
