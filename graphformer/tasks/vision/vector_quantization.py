"""Training of vector-quantised autoencoders: pixels and codes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchmetrics import Metric
from typing_extensions import Unpack

from graphformer.batch_type import BatchLike
from graphformer.data.batch import source_batch
from graphformer.models import VQAutoencoder
from graphformer.options import checked_options
from graphformer.patterns import Complete, Pattern, lengths
from graphformer.tasks.base import Stage, Task, Updates
from graphformer.tasks.labels import at_least_float32
from graphformer.tasks.metrics import Mean
from graphformer.tasks.options import TaskOptions


class CodebookUsage(Metric):
    """The exponential of the entropy of the codes: how many of K codes are in use, 1 to K.

    Args:
        num_codes: K.
    """

    counts: Tensor

    def __init__(self, num_codes: int) -> None:
        super().__init__()
        counts = torch.zeros(num_codes, dtype=torch.int64)
        self.add_state("counts", counts, dist_reduce_fx="sum")

    def update(self, codes: Tensor) -> None:
        """Count the codes of a batch, int64 [N]."""
        self.counts = self.counts + torch.bincount(codes, minlength=len(self.counts))

    def compute(self) -> Tensor:
        """Return the number of codes in use, []; NaN without a code."""
        share = self.counts.double() / self.counts.sum()
        return torch.special.entr(share).sum().exp().float()


class VectorQuantization(Task):
    """Mean squared error of the pixels, and the error of the quantisation; no labels are used.

    The images of captions are trained on without them. Metrics: the loss; `pixels`, the mean
    squared error of the pixels alone, in units of the variance of the training images; and `codes`,
    the number of codes in use.

    Args:
        network: a `VQAutoencoder`.
        adjacency: unused, for the network has no attention.
        options: those of `Task`.

    Raises:
        ValueError: when the network is another one.

    Source: van den Oord et al., 2017, equation 3.
    """

    @checked_options
    def __init__(
        self,
        network: nn.Module,
        adjacency: Pattern = Complete(),
        **options: Unpack[TaskOptions],
    ) -> None:
        super().__init__(network, adjacency, **options)
        if not isinstance(network, VQAutoencoder):
            raise ValueError(
                f"network: got {type(network).__name__}, expected a VQAutoencoder; choose "
                "graphformer.models.vq_autoencoder"
            )
        usage = CodebookUsage(network.num_codes)
        self.add_metrics({"loss": Mean(), "pixels": Mean(), "codes": usage})

    def training_step(self, batch: BatchLike, batch_idx: int) -> Tensor:
        """Return the mean loss over the patches, []."""
        pixels, error, _ = self._errors(batch)
        return self.training_loss((pixels + error).sum(), _count(pixels), rows=len(lengths(batch)))

    def evaluate(self, batch: BatchLike, batch_idx: int, stage: Stage) -> tuple[Updates, int]:
        """Return the loss and the error of the pixels summed over patches, and the codes."""
        pixels, error, codes = self._errors(batch)
        count = _count(pixels)
        updates = {
            "loss": ((pixels + error).sum(), count),
            "pixels": (pixels.sum(), count),
            "codes": (codes,),
        }
        return updates, len(lengths(batch))

    def _errors(self, batch: BatchLike) -> tuple[Tensor, Tensor, Tensor]:
        """The squared error of the pixels, that of the quantisation, and the code of each patch."""
        images = batch if getattr(batch, "source", None) is None else source_batch(batch)
        if not images.x.is_floating_point():
            raise ValueError(
                f"batch.x: got {images.x.dtype}, expected patches [N, F] of floating point for "
                f"{type(self).__name__}; choose data of images, such as Scenes"
            )
        patches, codes, error = self.network(images)
        pixels = (at_least_float32(patches) - images.x).square().mean(1)
        return pixels, at_least_float32(error), codes


def _count(rows: Tensor) -> Tensor:
    return torch.tensor(len(rows), device=rows.device)
