"""Initial weights: their scale by width, and which of them are drawn."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import graphformer as gf
from graphformer.nn import Embedding, MixtureOfExperts, weight_std
from graphformer.nn.init import initialise


def test_std_is_gpt2s_at_its_width_and_falls_with_the_root():
    assert weight_std(768) == pytest.approx(0.02)
    assert weight_std(192) == pytest.approx(0.04)


@pytest.fixture
def network() -> nn.ModuleDict:
    torch.manual_seed(3)
    mlp = [None, MixtureOfExperts(62, num_experts=5, gated=False)]
    transformer = gf.Transformer(62, 2, 2, mlp=lambda i: mlp[i] or gf.nn.FeedForward(62))
    transformer.register_parameter("free", nn.Parameter(torch.full((3,), 7.0)))
    embedding = Embedding(nn.Embedding(211, 62), norm=nn.LayerNorm(62))
    return nn.ModuleDict({"embedding": embedding, "transformer": transformer})


def test_weights_by_their_part_in_the_residual_stream(network):
    initialise(network, std=0.3, depth=2)
    first, second = network["transformer"].blocks
    for weight in (
        network["embedding"].features.weight,
        first.attention.qkv.weight,
        first.mlp[0].weight,
        second.mlp.up,
        second.mlp.router.weight,
    ):
        assert float(weight.detach().std()) == pytest.approx(0.3, rel=0.1)
    for weight in (first.attention.out.weight, first.mlp[3].weight, second.mlp.down):
        assert float(weight.detach().std()) == pytest.approx(0.15, rel=0.1)  # 0.3 / sqrt(2 * 2)


def test_biases_are_zero_and_others_keep_their_values(network):
    norm = network["embedding"].norm
    nn.init.constant_(norm.bias, 5.0)
    nn.init.ones_(network["transformer"].blocks[0].attention.out.bias)
    initialise(network, std=0.3, depth=2)
    assert not network["transformer"].blocks[0].attention.out.bias.any()
    assert (norm.bias == 5).all()
    assert (norm.weight == 1).all()
    assert (network["transformer"].free == 7).all()


def test_no_blocks():
    linear = nn.Linear(3, 101)
    initialise(linear, std=0.3, depth=0)
    assert float(linear.weight.detach().std()) == pytest.approx(0.3, rel=0.2)
