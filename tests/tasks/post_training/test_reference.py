"""References: frozen copies of trained weights, of adapters, and cached log-probabilities."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from helpers.preferences import PAIRS, pair_batch, policy
from torch import Tensor

from graphformer import models
from graphformer.distributed.mesh import DataParallel
from graphformer.patterns import Causal, Window
from graphformer.tasks.finetuning import add_lora
from graphformer.tasks.post_training.reference import (
    CachedReference,
    FrozenReference,
    answer_log_probs,
    cache_key,
)


def test_a_frozen_copy_does_not_change_and_has_no_gradient() -> None:
    network, batch = policy(dropout=0.5), pair_batch(PAIRS)
    before = answer_log_probs(network, batch, Causal())
    reference = FrozenReference(network)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3)
    after = answer_log_probs(network, batch, Causal())
    found = reference.log_probs(network, batch, Causal())
    assert torch.equal(found, before)
    assert not torch.equal(after, before)
    assert not found.requires_grad
    assert network.training
    assert list(reference.parameters()) == []


def test_the_temperature_is_that_of_the_policy() -> None:
    network, batch = policy(), pair_batch(PAIRS)
    reference = FrozenReference(network)
    found = reference.log_probs(network, batch, Causal(), temperature=0.7)
    assert torch.equal(found, answer_log_probs(network, batch, Causal(), temperature=0.7))
    assert not torch.equal(found, answer_log_probs(network, batch, Causal()))


def test_the_reference_of_a_trained_adapter_is_that_adapter() -> None:
    pytest.importorskip("peft")
    network, batch = policy(), pair_batch(PAIRS)
    without = answer_log_probs(network, batch, Causal())
    add_lora(network, {"r": 2, "init_lora_weights": False})
    before = answer_log_probs(network, batch, Causal())
    assert not torch.allclose(before, without)
    reference = FrozenReference(network)
    trained = [p for p in network.parameters() if p.requires_grad]
    size = sum(weight.numel() for weight in reference.buffers())
    assert size == sum(p.numel() for p in trained) < sum(p.numel() for p in network.parameters())
    with torch.no_grad():
        for parameter in trained:
            parameter.add_(0.3)
    assert torch.equal(reference.log_probs(network, batch, Causal()), before)


def test_cached_log_probabilities(tmp_path: Path) -> None:
    network = policy().double()
    batches = [pair_batch(PAIRS[:2]), pair_batch(PAIRS[2:])]
    key = cache_key(network, Causal())
    cache = CachedReference(tmp_path, key)
    cache.fill(network, batches, Causal())
    again = CachedReference(tmp_path, key)
    both = pair_batch(PAIRS[2:] + PAIRS[:2])  # other batches of the same samples
    expected = answer_log_probs(network, both, Causal())
    torch.testing.assert_close(again.log_probs(network, both, Causal()), expected)
    with pytest.raises(ValueError, match="reference_cache: got 1 samples that are not in"):
        again.log_probs(network, pair_batch([([1, 2], [3, 4, 6]), PAIRS[1]]), Causal())
    assert key != cache_key(network, Window(2, causal=True))
    assert key != cache_key(network, Causal(), temperature=0.5)
    assert key != cache_key(policy(2).double(), Causal())
    assert key == cache_key(policy().double(), Causal())


class SecondOfTwo(DataParallel):
    """The second of two ranks; the first has computed the samples of `others`."""

    others: ClassVar[dict[str, Tensor]] = {}

    def gather_objects(self, item: Any) -> list[Any]:
        return [self.others, item]


def test_a_rank_gets_what_the_others_have_computed_and_the_first_writes(tmp_path: Path) -> None:
    network, key = policy(), "a"
    both = [pair_batch(PAIRS[:2]), pair_batch(PAIRS[2:])]
    first = CachedReference(tmp_path / "first", key)
    first.fill(network, both[:1], Causal())
    second, ranks = CachedReference(tmp_path / "second", key), SecondOfTwo(1, 2)
    ranks.others.update(first.stored)
    second.fill(network, both[1:], Causal(), ranks=ranks)
    expected = answer_log_probs(network, both[0], Causal())
    assert torch.equal(second.log_probs(network, both[0], Causal()), expected)
    assert first.path.exists()
    assert not second.path.exists()


def test_settings_that_no_weight_depends_on_have_files_of_their_own() -> None:
    def key(num_heads: int) -> str:
        torch.manual_seed(0)
        return cache_key(models.llama(13, dim=12, depth=1, num_heads=num_heads), Causal())

    assert key(2) == key(2)
    assert key(2) != key(3)
