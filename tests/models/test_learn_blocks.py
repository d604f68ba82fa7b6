"""Learned numbers of blocks have the asked mean and the least expected divergence."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import graphformer as gf
from graphformer import models
from graphformer.models import learn_blocks as module
from graphformer.patterns import Causal, PerLayer, TopBlocks, Window
from graphformer.patterns.serialization import pattern_config, pattern_from_config

PATTERN = TopBlocks(3, 2, causal=True, first=1, share_heads=True)


def make_model(depth: int) -> models.Model:
    torch.manual_seed(0)
    model = models.language_model(
        11, dim=12, depth=depth, num_heads=6, num_kv_heads=3, positions="rotary"
    )
    with torch.no_grad():  # sharper than at random
        for block in model.transformer.blocks:
            block.attention.qkv.weight.mul_(5)
    return model.with_adjacency(Causal()).double().eval()


def text(length: int) -> list[int]:
    return torch.randint(11, (length,), generator=torch.Generator().manual_seed(1)).tolist()


@pytest.mark.parametrize("blocks", [2.0, 3.1, 5.0])
def test_the_mean_number_of_blocks_is_at_most_the_asked_one(blocks):
    model, texts = make_model(2), [text(47), text(53)]
    pattern = gf.learn_blocks(model, texts, PATTERN, blocks=blocks)
    assert isinstance(pattern, PerLayer)
    numbers = [k for one in pattern.patterns for k in one.k]
    assert len(numbers) == 2 * 3
    mean = sum(sum(min(i + 1, k) for i in range(18)) / 18 for k in numbers) / len(numbers)
    assert mean <= blocks < mean + 1
    assert pattern_from_config(pattern_config(pattern)) == pattern
    assert model(gf.data.pack_tokens(texts), pattern).isfinite().all()


def test_with_enough_blocks_the_model_is_unchanged():
    model, tokens = make_model(2), text(41)
    pattern = gf.learn_blocks(model, [tokens], PATTERN, blocks=14.0)
    batch = gf.data.pack_tokens([tokens])
    torch.testing.assert_close(model(batch, pattern), model(batch, Causal()))


@torch.no_grad()
def test_the_expected_divergence_is_near_that_of_the_outputs():
    model, tokens = make_model(1), text(601)
    batch = gf.data.pack_tokens([tokens])
    attentions = [block.attention for block in model.transformer.blocks]
    fisher = module._fisher(model, attentions, tokens, torch.Generator().manual_seed(0))
    numbers = [2, 8, 30]
    expected = module._divergences(model, attentions, tokens, PATTERN, numbers, fisher)[0]
    log_p = model(batch, Causal()).log_softmax(-1)
    for head, place in product(range(3), range(3)):
        own = [201, 201, 201]
        own[head] = numbers[place]
        log_q = model(batch, TopBlocks(3, tuple(own), True, 1, 1, True)).log_softmax(-1)
        divergence = (log_p.exp() * (log_p - log_q)).sum(1).mean()
        assert 0.5 < float(expected[head, place] / divergence) < 2


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_no_other_choice_of_at_most_that_cost_has_a_smaller_divergence(data):
    shape = data.draw(st.tuples(st.integers(1, 4), st.integers(2, 4)))
    values = st.floats(0, 1, width=32)
    table = torch.tensor(
        [data.draw(st.lists(values, min_size=shape[1], max_size=shape[1])) for _ in range(shape[0])]
    )
    costs = torch.arange(1, shape[1] + 1).cumsum(0).float()
    mean = data.draw(st.floats(1, float(costs[-1])))
    chosen = module._cheapest(table, costs, mean)
    cost, rows = costs[chosen].sum(), torch.arange(shape[0])
    assert cost <= mean * shape[0] * (1 + 1e-6)
    least = min(
        float(table[rows, list(choice)].sum())
        for choice in product(range(shape[1]), repeat=shape[0])
        if costs[list(choice)].sum() <= cost
    )
    assert table[rows, chosen].sum() <= least + 1e-5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"texts": []}, r"texts, pattern: got texts of \[\] tokens"),
        ({"texts": [text(5), []]}, r"texts, pattern: got texts of \[5, 0\] tokens"),
        ({"pattern": TopBlocks(3, 2)}, "none of them empty, and a causal pattern"),
        ({"gradient_tokens": 0}, "gradient_tokens: got 0"),
        ({"blocks": float("nan")}, "blocks: got nan"),
        ({"blocks": 1.0}, "blocks: got 1.0, expected at least 1.9"),
    ],
)
def test_bad_arguments_are_named(options, message):
    arguments = {"texts": [text(30)], "pattern": PATTERN, "blocks": 3.0, **options}
    with pytest.raises(ValueError, match=message):
        gf.learn_blocks(make_model(1), **arguments)


def test_other_models_and_patterns_are_named():
    with pytest.raises(TypeError, match="model, pattern: got Transformer and TopBlocks"):
        gf.learn_blocks(gf.Transformer(dim=8, depth=1, num_heads=2), [[1]], PATTERN, blocks=3.0)
    with pytest.raises(TypeError, match="model, pattern: got Model and Window"):
        gf.learn_blocks(make_model(1), [[1]], Window(3, causal=True), blocks=3.0)


def test_frozen_weights_have_the_same_numbers():
    model, texts = make_model(2), [text(47)]
    expected = gf.learn_blocks(model, texts, PATTERN, blocks=4.0)
    assert gf.learn_blocks(model.requires_grad_(False), texts, PATTERN, blocks=4.0) == expected
