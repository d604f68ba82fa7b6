"""`SentenceContrast`: sentence embeddings trained by a contrastive loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Unpack

from graphformer.batch_type import Batch, BatchLike
from graphformer.data.loader import is_padding
from graphformer.distributed import data_parallel
from graphformer.options import checked_options
from graphformer.patterns import Complete, Pattern, lengths
from graphformer.tasks.base import Stage, Task, Updates
from graphformer.tasks.labels import at_least_float32
from graphformer.tasks.metrics import Mean
from graphformer.tasks.options import TaskOptions


class SentenceContrast(Task):
    """SimCSE: two embeddings of a sentence are classified as a pair within the batch of all ranks.

    The two views of a sentence are the same tokens under different dropout masks, or the two texts
    of a pair where the batch has pairs (`source`, as in `TextPairs`). Both views pass through the
    network in one batch of twice the samples, so a network without dropout learns nothing from
    single sentences. In evaluation dropout is off: the loss then measures uniformity, and accuracy
    is the share of sentences that are nearest to their own other view.

    Args:
        network: computes one vector for each sample, [B, C].
        adjacency: pattern of the edges of attention within a sentence.
        temperature: by which cosine similarities are divided.
        options: those of `Task`.

    Source: Gao et al., 2021.
    """

    @checked_options
    def __init__(
        self,
        network: nn.Module,
        adjacency: Pattern = Complete(),
        *,
        temperature: float = 0.05,
        **options: Unpack[TaskOptions],
    ) -> None:
        super().__init__(network, adjacency, **options)
        self.temperature = temperature
        self.add_metrics({"loss": Mean(), "accuracy": Mean()})

    def training_step(self, batch: BatchLike, batch_idx: int) -> Tensor:
        """Return the mean loss over the sentences of a batch, []."""
        total, _, count = self._contrast(batch)
        return self.training_loss(total, count, rows=int(count))

    def _contrast(self, batch: BatchLike) -> tuple[Tensor, Tensor, Tensor]:
        """Return the sum of losses, the number of correct pairs and the number of sentences."""
        views = F.normalize(at_least_float32(self(both_views(batch))), dim=-1).chunk(2)
        ranks = data_parallel(self)
        first, second = (view[:0] if is_padding(batch) else view for view in views)
        similarity = first @ ranks.gather_rows(second).T / self.temperature
        index = torch.arange(len(first), device=first.device) + ranks.count_before(len(first))
        total = F.cross_entropy(similarity, index, reduction="sum")
        return total, (similarity.argmax(-1) == index).sum(), index.new_tensor(len(index))

    def evaluate(self, batch: BatchLike, batch_idx: int, stage: Stage) -> tuple[Updates, int]:
        """Return the sum of losses, and the number of correct pairs, over the sentences."""
        total, right, count = self._contrast(batch)
        return {"loss": (total, count), "accuracy": (right, count)}, int(count)


def both_views(batch: BatchLike) -> Batch:
    """Return a batch of 2 B samples: the first texts of all pairs, then the second texts.

    Without pairs the samples are repeated.
    """
    sizes, x, pos = lengths(batch), batch.x, batch.pos
    first = x, pos, sizes
    if getattr(batch, "source", None) is not None:
        inner = pos > 0  # without <bos>, the first token of each target
        x, pos, sizes = x[inner], pos[inner] - 1, tuple(size - 1 for size in sizes)
        first = batch.source, batch.source_pos, batch.source_lengths
    return Batch(
        x=torch.cat([first[0], x]), pos=torch.cat([first[1], pos]), lengths=(*first[2], *sizes)
    )
