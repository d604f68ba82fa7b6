"""Log-probabilities of answer tokens: packed equals unpacked, temperature, entropy, sums."""

from __future__ import annotations

import math
from itertools import chain

import pytest
import torch

from graphformer import models
from graphformer.data import pack_tokens
from graphformer.patterns import Causal, Window
from graphformer.tasks.post_training.log_probs import (
    answer_samples,
    entropy,
    log_probs,
    mean_by_sample,
    sum_by_sample,
)

VOCAB = 17


def network():
    torch.manual_seed(1)
    return models.language_model(VOCAB, dim=12, depth=2, num_heads=3, max_length=23).double()


def labelled(rows, answer_from):
    batch = pack_tokens([row[:-1] for row in rows])
    labels = [
        [-100] * (start - 1) + list(row[start:])
        for row, start in zip(rows, answer_from, strict=True)
    ]
    batch.y = torch.tensor(list(chain.from_iterable(labels)))
    return batch


@pytest.mark.parametrize("pattern", [Causal(), Window(3, causal=True)])
def test_packed_equals_unpacked_and_documents_do_not_touch(pattern) -> None:
    rows, starts = [[3, 1, 4, 1, 5, 9, 2], [6, 5, 3], [5, 8, 9, 7, 9]], [3, 1, 2]
    model = network().eval()
    batch = labelled(rows, starts)
    packed = log_probs(model(batch, pattern(batch)), batch.y)
    single = []
    for row, start in zip(rows, starts, strict=True):
        one = labelled([row], [start])
        single.append(log_probs(model(one, pattern(one)), one.y))
    torch.testing.assert_close(packed, torch.cat(single))
    edited = labelled([[3, 1, 4, 2, 7, 9, 2], *rows[1:]], starts)
    other = log_probs(model(edited, pattern(edited)), edited.y)
    assert torch.equal(other[4:], packed[4:])
    assert not torch.equal(other[:4], packed[:4])


def test_temperature_divides_the_logits() -> None:
    logits = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    labels = torch.tensor([0, -100])
    found = log_probs(logits, labels, temperature=0.7)
    total = sum(math.exp(x / 0.7) for x in (1.0, 2.0, 3.0))
    assert found.tolist() == pytest.approx([1 / 0.7 - math.log(total)])


def test_entropy_is_never_negative_and_independent_of_other_nodes() -> None:
    logits = torch.tensor([[0.0, 0.0], [100.0, -torch.inf], [math.log(9.0), 0.0]])
    found = entropy(logits, torch.tensor([0, 0, 1]))
    assert found.tolist() == pytest.approx([math.log(2), 0.0, 0.325083], abs=1e-6)
    more = entropy(
        torch.cat([logits, torch.randn(3, 2)]), torch.tensor([0, 0, 1, -100, -100, -100])
    )
    assert torch.equal(more, found)


def test_sums_and_means_by_sample() -> None:
    values, sample = torch.tensor([1.0, 2.0, 6.0]), torch.tensor([0, 0, 2])
    assert sum_by_sample(values, sample, 3).tolist() == [3, 0, 6]
    assert mean_by_sample(values, sample, 3).tolist() == [1.5, 0, 6]
    batch = labelled([[1, 2, 3], [4, 5, 6, 7]], [2, 2])
    assert answer_samples(batch).tolist() == [0, 1, 1]
