"""Masked image modelling: predict hidden patches from the visible ones."""

from __future__ import annotations

from inspect import signature

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from graphformer.batch_type import BatchLike
from graphformer.deprecated import renamed_function
from graphformer.options import checked_options
from graphformer.patterns import Complete, Pattern, lengths
from graphformer.tasks.base import Stage, Task, Updates
from graphformer.tasks.labels import at_least_float32
from graphformer.tasks.metrics import Mean
from graphformer.tasks.options import TaskOptions
from graphformer.tasks.seeding import Generators, batch_generators


class MaskedImageModeling(Task):
    """Mean squared error of the pixels of hidden patches; no labels are used.

    The hidden patches of an image are drawn from (seed, step, image) in training, and are fixed in
    validation and test.

    Args:
        network: `network(batch, adjacency, visible)` predicts all patches, [N, F], such as `mae`.
        adjacency: pattern among the patches.
        mask_ratio: share of each image's patches that is hidden, between 0 and 1.
        normalize: whether targets are patches scaled to mean 0 and standard deviation 1.
        seed: of the choice of patches.
        options: those of `Task`.

    Raises:
        ValueError: when the network's forward has no argument `visible`, or mask_ratio is out of
            range.

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
                f"network: got {type(network).__name__}, expected one whose forward has the "
                "argument `visible`; choose graphformer.models.mae"
            )
        if not 0 < mask_ratio < 1:
            raise ValueError(f"mask_ratio: got {mask_ratio}, expected a share between 0 and 1")
        self.mask_ratio, self.normalize, self.seed = mask_ratio, normalize, seed
        self.add_metrics({"loss": Mean()})

    def training_step(self, batch: BatchLike, batch_idx: int) -> Tensor:
        """Return the mean loss over the hidden patches, []."""
        total, count = self._loss(batch, training=True)
        return self.training_loss(total, count, rows=len(lengths(batch)))

    def _loss(self, batch: BatchLike, *, training: bool) -> tuple[Tensor, Tensor]:
        if not batch.x.is_floating_point():
            raise ValueError(
                f"batch.x: got {batch.x.dtype}, expected patches [N, F] of floating point for "
                f"{type(self).__name__}; choose data of images, such as IdxImages"
            )
        generators = batch_generators(self, batch, self.seed, training=training)
        visible = sample_visible_mask(lengths(batch), self.mask_ratio, generators)
        visible = visible.to(batch.x.device)
        patches = at_least_float32(self.network(batch, self.adjacency(batch), visible))
        target = normalize_patches(batch.x)[0] if self.normalize else batch.x
        total = (patches - target).square().mean(1)[~visible].sum()
        return total, (~visible).sum()

    def evaluate(self, batch: BatchLike, batch_idx: int, stage: Stage) -> tuple[Updates, int]:
        """Return the squared error summed over hidden patches, and their number."""
        return {"loss": self._loss(batch, training=False)}, len(lengths(batch))


def sample_visible_mask(
    lengths: tuple[int, ...], mask_ratio: float, generators: Generators | np.random.Generator
) -> Tensor:
    """Return which patches stay visible, bool [N]; at least one per image is, and one is not.

    Args:
        lengths: patches per image, B ints.
        mask_ratio: share of each image's patches that is hidden.
        generators: each draws a permutation of the patches of its image; or one for all images.

    Raises:
        ValueError: when an image has fewer than two patches.
    """
    if min(lengths, default=2) < 2:
        raise ValueError(
            f"images: got one of {min(lengths)} patches, expected 2 or more, so that some are "
            "hidden and some visible; choose a smaller patch_size, or leave small images out"
        )
    if isinstance(generators, np.random.Generator):
        generators = [generators] * len(lengths)
    masks = []
    for length, generator in zip(lengths, generators, strict=True):
        visible = np.zeros(length, bool)
        count = min(max(1, round((1 - mask_ratio) * length)), length - 1)
        visible[generator.permutation(length)[:count]] = True
        masks.append(visible)
    return torch.from_numpy(np.concatenate([np.zeros(0, bool), *masks]))


def normalize_patches(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Scale patches [N, F] to mean 0 and standard deviation 1.

    Returns:
        The patches, and the means and deviations [N, 1] that restore them.

    Raises:
        ValueError: when F is 1: one number has no deviation.
    """
    if x.shape[1] < 2:
        raise ValueError(
            "normalize: got patches of 1 number, expected 2 or more; choose a larger patch_size, "
            "or normalize=False"
        )
    mean, variance = x.mean(1, keepdim=True), x.var(1, keepdim=True)
    deviation = (variance + 1e-6).sqrt()
    return (x - mean) / deviation, mean, deviation


choose_visible = renamed_function("choose_visible", sample_visible_mask)
