"""Sentence embeddings by contrast: a sentence is nearer to itself than to the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Unpack

from graphformer.options import checked_options
from graphformer.patterns import Complete, Pattern, lengths
from graphformer.tasks.base import Stage, Task, TaskOptions, Updates
from graphformer.tasks.metrics import Mean

if TYPE_CHECKING:
    from torch_geometric.data import Data


class SentenceContrast(Task):
    """SimCSE: each sentence against itself under other dropout, and against the rest of its batch.

    Both views go through the network in one pass, as a batch of twice the samples; it needs
    dropout. In evaluation there is none, so that the loss there tells how far apart sentences are
    (uniformity), and accuracy how many are nearest to themselves. Where the batch has pairs of
    texts (`source`, as `TextPairs` gives them), the views are the two.

    Args:
        network: one vector a sample [B, C].
        adjacency: who attends to whom within a sentence.
        temperature: of the cosine similarities.
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

    def training_step(self, batch: Data, batch_idx: int) -> Tensor:
        """Mean loss over the sentences, []."""
        total, _, count = self._contrast(batch)
        return self.training_loss(total, count, rows=int(count))

    def _contrast(self, batch: Data) -> tuple[Tensor, Tensor, Tensor]:
        """Summed loss, number of sentences nearest to their other view, number of sentences."""
        first, second = F.normalize(self(both_views(batch)).float(), dim=-1).chunk(2)
        similarity = first @ second.T / self.temperature
        own = torch.arange(len(first), device=first.device)
        total = F.cross_entropy(similarity, own, reduction="sum")
        return total, (similarity.argmax(-1) == own).sum(), own.new_tensor(len(own))

    def evaluate(self, batch: Data, batch_idx: int, stage: Stage) -> tuple[Updates, int]:
        """Sums over sentences of the loss and of those nearest to their other view."""
        total, right, count = self._contrast(batch)
        return {"loss": (total, count), "accuracy": (right, count)}, int(count)


def both_views(batch: Data) -> Data:
    """The samples of a batch and, behind them, the same again, or the other texts of the pairs."""
    from torch_geometric.data import Data

    sizes, x, pos = lengths(batch), batch.x, batch.pos
    first = x, pos, sizes
    if getattr(batch, "source", None) is not None:
        inner = pos > 0  # without <bos>, which begins each
        x, pos, sizes = x[inner], pos[inner] - 1, tuple(size - 1 for size in sizes)
        first = batch.source, batch.source_pos, batch.source_lengths
    return Data(
        x=torch.cat([first[0], x]), pos=torch.cat([first[1], pos]), lengths=(*first[2], *sizes)
    )
