"""Random generators that depend on a seed, the step and the sample, for exact repetition."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from graphformer.patterns import lengths

if TYPE_CHECKING:
    import lightning.pytorch as pl

    from graphformer.batch_type import BatchLike

Generators = list[np.random.Generator]
"""One generator for each sample of a batch."""


def batch_generators(
    task: pl.LightningModule, batch: BatchLike, seed: int, *, training: bool
) -> Generators:
    """Return the generator of each sample of a batch; a resumed run has the same ones.

    In training it depends on the optimiser step and the content of the sample, on neither the
    process nor the batch: several processes draw what one does. In evaluation it does not depend on
    the step, so that the metrics of two validations are comparable.
    """
    step = task.global_step + 1 if training else 0
    return sample_generators(batch.x, lengths(batch), seed, step)


def sample_generators(
    x: Tensor, lengths: tuple[int, ...], seed: int, step: int | None = None
) -> Generators:
    """Return one generator per sample that depends on its tokens or patches alone, and a step.

    Args:
        x: tokens [N], or features [N, F], of which one number a row identifies the sample.
        lengths: number of rows of each sample, B ints.
        seed: of all generators.
        step: of training, if the samples have other generators in each.
    """
    if x.ndim > 1:
        x = x[:, x.shape[1] // 2]  # less to move from a GPU and to hash
    x = x.float() if x.dtype == torch.bfloat16 else x  # which numpy does not have
    rows = np.split(x.detach().cpu().numpy(), np.cumsum(lengths)[:-1])
    key = (seed,) if step is None else (seed, step)
    return [np.random.default_rng((*key, zlib.crc32(row.tobytes()))) for row in rows]


def draw_uniform(generators: Generators, counts: tuple[int, ...]) -> np.ndarray:
    """Return numbers from [0, 1), as many from each generator as its count, [sum(counts)]."""
    drawn = [g.random(count) for g, count in zip(generators, counts, strict=True)]
    return np.concatenate([np.zeros(0), *drawn])
