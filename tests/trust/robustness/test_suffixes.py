"""Suffixes found by gradients, against all replacements and the definition of the gradient."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graphformer import models
from graphformer.data import pack_tokens
from graphformer.patterns import Causal
from graphformer.trust.robustness.suffixes import (
    SuffixAttack,
    Surroundings,
    find_suffix,
    target_losses,
    token_gradient,
)

VOCAB, PROMPT, TAIL, TARGET, INITIAL = 13, [1, 5, 7], [9], [2, 11], [3, 3, 4, 8, 6]


@pytest.fixture
def network() -> models.Model:
    torch.manual_seed(0)
    model = models.language_model(VOCAB, dim=8, depth=2, num_heads=2, max_length=31).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def loss_of(network: models.Model, suffix: list[int]) -> float:
    batch = pack_tokens([PROMPT + suffix + TAIL + TARGET])
    logits = network(batch, Causal())[-len(TARGET) - 1 : -1]
    return F.cross_entropy(logits, torch.tensor(TARGET)).item()


def test_losses_are_those_of_single_texts(network: models.Model) -> None:
    suffixes = torch.randint(VOCAB, (7, 5))
    losses, greedy = target_losses(network, suffixes, Surroundings(PROMPT, TAIL, TARGET), Causal())
    expected = [loss_of(network, suffix) for suffix in suffixes.tolist()]
    torch.testing.assert_close(losses, torch.tensor(expected, dtype=torch.float64))
    for suffix, is_greedy in zip(suffixes.tolist(), greedy.tolist(), strict=True):
        answer = network.generate(PROMPT + suffix + TAIL, max_new_tokens=2, temperature=0)
        assert (answer[-2:] == TARGET) == is_greedy


class OneHot(nn.Embedding):
    """An embedding that is a product with one-hot rows, of which `rows` has the gradient."""

    def forward(self, input: Tensor) -> Tensor:
        self.rows = F.one_hot(input, VOCAB).to(self.weight).requires_grad_()
        return self.rows @ self.weight


def test_the_gradient_is_that_of_one_hot_tokens(network: models.Model) -> None:
    gradient = token_gradient(
        network, torch.tensor(INITIAL), Surroundings(PROMPT, TAIL, TARGET), Causal()
    )
    assert all(p.grad is None for p in network.parameters())
    table = network.embedding.features
    network.embedding.features = OneHot(VOCAB, 8, _weight=table.weight.detach())
    batch = pack_tokens([PROMPT + INITIAL + TAIL + TARGET])
    logits = network(batch, Causal())[-len(TARGET) - 1 : -1]
    F.cross_entropy(logits, torch.tensor(TARGET)).backward()
    expected = network.embedding.features.rows.grad[len(PROMPT) : len(PROMPT) + len(INITIAL)]
    torch.testing.assert_close(gradient, expected)


def test_a_step_over_all_replacements_takes_the_best(network: models.Model) -> None:
    everything = {"top_k": VOCAB, "num_candidates": VOCAB * len(INITIAL)}
    attack = find_suffix(network, PROMPT, TARGET, initial=INITIAL, tail=TAIL, steps=1, **everything)
    losses = {}
    for position in range(len(INITIAL)):
        for token in range(VOCAB):
            suffix = [*INITIAL[:position], token, *INITIAL[position + 1 :]]
            losses[tuple(suffix)] = loss_of(network, suffix)
    best = min(losses, key=lambda suffix: losses[suffix])
    assert attack.suffix == list(best)
    assert attack.losses == pytest.approx([loss_of(network, INITIAL), losses[best]])


def test_losses_fall_and_tokens_are_allowed_ones(network: models.Model) -> None:
    allowed = [3, 4, 6, 8, 9, 10]
    network.train()

    def search() -> SuffixAttack:
        return find_suffix(
            network, PROMPT, TARGET, initial=INITIAL, tail=TAIL, allowed=allowed, steps=7,
            top_k=3, num_candidates=11,
        )  # fmt: skip

    attack = search()
    assert network.training
    assert attack.losses == sorted(attack.losses, reverse=True)
    assert attack.losses[-1] < attack.losses[0]
    assert set(attack.suffix) <= set(allowed)
    assert attack.losses[-1] == pytest.approx(loss_of(network.eval(), attack.suffix))
    assert search() == attack


def test_it_stops_when_the_target_is_the_answer(network: models.Model) -> None:
    answer = network.generate(PROMPT + INITIAL, max_new_tokens=2, temperature=0)[-2:]
    attack = find_suffix(network, PROMPT, answer, initial=INITIAL, steps=3)
    assert attack.succeeded
    assert (attack.suffix, len(attack.losses)) == (INITIAL, 1)


def test_empty_arguments_are_named(network: models.Model) -> None:
    with pytest.raises(ValueError, match="target: got no tokens, expected some"):
        find_suffix(network, PROMPT, [], initial=INITIAL)
    network.embedding.features = nn.Linear(3, 8)
    with pytest.raises(ValueError, match="network: got Linear as embedding of tokens"):
        find_suffix(network, PROMPT, TARGET, initial=INITIAL)
