"""Masked images: hidden patches from the visible ones."""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from graphformer.options import checked_options
from graphformer.patterns import Complete, Pattern, lengths
from graphformer.tasks.base import Stage, Task, TaskOptions, Updates
from graphformer.tasks.metrics import Mean
from graphformer.tasks.seeding import batch_generator

if TYPE_CHECKING:
    from torch_geometric.data import Data


class MaskedImageModeling(Task):
    """Mean squared error of the pixels of hidden patches, without labels.

    Which are hidden is drawn anew for every batch, repeatably; in validation and test it is fixed.

    Args:
        network: `network(batch, adjacency, visible)` gives all patches, [N, F], such as `mae`.
        adjacency: who attends to whom.
        mask_ratio: share of each image's patches to hide.
        normalize: tell each patch with a mean of 0 and a deviation of 1.
        seed: of the chance.
        options: those of `Task`.

    Source: He et al., 2022, section 3.
    """

    @checked_options
    def __init__(
        self,
        network: nn.Module,
        adjacency: Pattern = Complete(),
        *,
        mask_ratio: float = 0.75,
        normalize: bool = True,
        seed: int = 0,
        **options: Unpack[TaskOptions],
    ) -> None:
        super().__init__(network, adjacency, **options)
        if "visible" not in signature(network.forward).parameters:
            raise ValueError(
                f"network is {type(network).__name__}, which cannot be told what is visible: "
                "choose graphformer.models.mae."
            )
        if not 0 < mask_ratio < 1:
            raise ValueError(f"mask_ratio is {mask_ratio}: expected a share between 0 and 1.")
        self.mask_ratio, self.normalize, self.seed = mask_ratio, normalize, seed
        self.add_metrics({"loss": Mean()})

    def training_step(self, batch: Data, batch_idx: int) -> Tensor:
        """Mean loss over the hidden patches, []."""
        total, count = self._loss(batch, batch_idx, training=True)
        return self.training_loss(total, count, rows=len(lengths(batch)))

    def _loss(self, batch: Data, batch_idx: int, *, training: bool) -> tuple[Tensor, Tensor]:
        if not batch.x.is_floating_point():
            raise ValueError(
                f"{type(self).__name__} needs batches of images, whose x is patches [N, F], but "
                f"got x of type {batch.x.dtype}: choose data of images, such as IdxImages."
            )
        generator = batch_generator(self, self.seed, batch_idx, training=training)
        visible = sample_visible_mask(lengths(batch), self.mask_ratio, generator).to(batch.x.device)
        patches = self.network(batch, self.adjacency(batch), visible).float()
        target = normalize_patches(batch.x)[0] if self.normalize else batch.x
        total = (patches - target).square().mean(1)[~visible].sum()
        return total, (~visible).sum()

    def evaluate(self, batch: Data, batch_idx: int, stage: Stage) -> tuple[Updates, int]:
        """Sum of the squared errors of hidden patches, and their number."""
        return {"loss": self._loss(batch, batch_idx, training=False)}, len(lengths(batch))


def sample_visible_mask(
    sizes: tuple[int, ...], mask_ratio: float, generator: np.random.Generator
) -> Tensor:
    """Which patches stay visible, bool [N]: of each image its share, at least one."""
    visible = []
    for size in sizes:
        chosen = np.zeros(size, bool)
        count = max(1, round((1 - mask_ratio) * size))
        chosen[generator.permutation(size)[:count]] = True
        visible.append(chosen)
    return torch.from_numpy(np.concatenate([np.zeros(0, bool), *visible]))


def normalize_patches(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Patches [N, F] with a mean of 0 and a deviation of 1, and these [N, 1], to undo it.

    Raises ValueError for patches of a single number, which have no deviation.
    """
    if x.shape[1] < 2:
        raise ValueError(
            "normalize needs patches of 2 numbers or more, got 1: choose a larger patch_size, or "
            "normalize=False."
        )
    mean, variance = x.mean(1, keepdim=True), x.var(1, keepdim=True)
    deviation = (variance + 1e-6).sqrt()
    return (x - mean) / deviation, mean, deviation
