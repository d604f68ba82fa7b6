"""Contrast of sentences: views, losses, pairs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Data

from graphformer.tasks import SentenceContrast
from graphformer.tasks.text.sentence_contrast import both_views


class Means(nn.Module):
    """The mean of each sample's one-hot tokens, with dropout."""

    def __init__(self, vocab_size: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, vocab_size)
        self.dropout = nn.Dropout(dropout)
        nn.init.eye_(self.embedding.weight)

    def forward(self, batch: Data, adjacency: Any) -> Tensor:
        rows = self.dropout(self.embedding(batch.x)).split(list(batch.lengths))
        return torch.stack([row.mean(0) for row in rows])


def sentences() -> Data:
    x = torch.tensor([0, 0, 1, 2, 3, 3, 4])
    return Data(x=x, pos=torch.tensor([0, 1, 2, 0, 0, 1, 2]), lengths=(3, 1, 3))


def test_a_sentence_is_contrasted_with_itself_in_one_pass() -> None:
    views = both_views(sentences())
    assert views.lengths == (3, 1, 3, 3, 1, 3)
    assert torch.equal(views.x[:7], views.x[7:])
    assert torch.equal(views.pos[:7], views.pos[7:])
    task = SentenceContrast(Means(5, 0.0), temperature=0.5)
    total, right, count = task._contrast(sentences())
    vectors = F.normalize(torch.tensor([[2.0, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 2, 1]]))
    similar = vectors @ vectors.T / 0.5
    wanted = F.cross_entropy(similar, torch.arange(3), reduction="sum")
    torch.testing.assert_close(total.detach(), wanted)
    assert (int(right), int(count)) == (3, 3)


def test_dropout_makes_the_two_views() -> None:
    torch.manual_seed(0)
    task = SentenceContrast(Means(5, 0.5)).train()
    torch.manual_seed(1)
    first, second = F.normalize(task(both_views(sentences())), dim=-1).chunk(2)
    assert not torch.equal(first, second)


def test_pairs_are_contrasted_with_their_other_text() -> None:
    batch = Data(
        x=torch.tensor([9, 1, 2, 9, 3]),
        pos=torch.tensor([0, 1, 2, 0, 1]),
        lengths=(3, 2),
        source=torch.tensor([5, 6]),
        source_pos=torch.tensor([0, 0]),
        source_lengths=(1, 1),
    )
    views = both_views(batch)
    assert views.x.tolist() == [5, 6, 1, 2, 3]
    assert views.lengths == (1, 1, 2, 1)
    assert views.pos.tolist() == [0, 0, 0, 1, 0]
