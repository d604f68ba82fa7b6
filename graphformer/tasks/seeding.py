"""Random generators that depend on a seed and the position in training, for exact repetition."""

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
    """Return the generator of a batch; a resumed run has the same one.

    In training it depends on epoch, batch and process. In evaluation it does not depend on the
    epoch, so that the metrics of two validations are comparable.
    """
    epoch = task.current_epoch + 1 if training else 0
    return np.random.default_rng((seed, epoch, batch_idx, task.global_rank))


def sample_generators(x: Tensor, lengths: tuple[int, ...], seed: int) -> list[np.random.Generator]:
    """Return one generator per sample that depends on its tokens x [N] alone."""
    rows = np.split(x.cpu().numpy(), np.cumsum(lengths)[:-1])
    return [np.random.default_rng((seed, zlib.crc32(row.tobytes()))) for row in rows]
