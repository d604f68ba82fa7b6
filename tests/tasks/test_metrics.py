"""Means over labels of several batches, perplexity and bits."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.tasks import Batches, Linear, node_batch, trainer
from torch.nn import functional as F

from graphformer.patterns import Causal
from graphformer.tasks import LanguageModeling
from graphformer.tasks.metrics import BitsPerByte, BitsPerCharacter, Mean, Perplexity

SUMS = [(5.0, 3), (2.0, 1), (0.0, 0)]


def updated(metric: Mean) -> float:
    for total, count in SUMS:
        metric.update(torch.tensor(total), torch.tensor(count))
    return float(metric.compute())


def test_batches_count_by_their_labels():
    assert updated(Mean()) == pytest.approx(7 / 4)


def test_perplexity_and_bits():
    assert updated(Perplexity()) == pytest.approx(math.exp(7 / 4))
    assert updated(BitsPerCharacter(2.5)) == pytest.approx(7 / 4 / math.log(2) / 2.5)


def test_bits_per_byte_are_unknown_without_the_length_of_a_token():
    assert math.isnan(updated(BitsPerByte()))
    metric = BitsPerByte()
    metric.bytes_per_token = 3.5
    assert updated(metric) == pytest.approx(7 / 4 / math.log(2) / 3.5)


def test_language_metrics_are_means_over_tokens():
    batches = [node_batch(7, 0), node_batch(11, 1, labels=[2, 3])]
    task = LanguageModeling(Linear(), characters_per_token=2.0)
    assert task.adjacency == Causal()
    (result,) = trainer().test(task, Batches(batches), verbose=False)
    with torch.no_grad():
        logits = torch.cat([task(batch) for batch in batches])
        loss = F.cross_entropy(logits, torch.cat([batch.y for batch in batches])).item()
    assert result["test/loss"] == pytest.approx(loss, rel=1e-5)
    assert result["test/perplexity"] == pytest.approx(math.exp(loss), rel=1e-5)
    assert result["test/bits_per_character"] == pytest.approx(loss / math.log(2) / 2, rel=1e-5)
