"""Context managers: modes and forward methods are restored."""

from __future__ import annotations

import pytest
import torch
from helpers.generation import PROMPTS, decoder
from torch import nn

from graphformer import patterns
from graphformer.data import pack_tokens
from graphformer.models.generation.modes import eval_mode, fast_linear


def test_each_module_gets_its_mode_back():
    network = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout(), nn.Linear(3, 2))).train()
    network[1].eval()
    before = [module.training for module in network.modules()]
    with eval_mode(network):
        assert not any(module.training for module in network.modules())
    assert [module.training for module in network.modules()] == before


def test_modes_are_restored_after_an_error():
    network = nn.Dropout().train()
    with pytest.raises(ZeroDivisionError), eval_mode(network):
        _ = 1 / 0
    assert network.training


def test_a_mixed_mode_is_restored():
    network = nn.Sequential(nn.Dropout(), nn.Dropout()).train()
    network[0].eval()
    before = [module.training for module in network.modules()]
    with eval_mode(network):
        pass
    assert [module.training for module in network.modules()] == before


def test_fast_layers_compute_the_same():
    torch.manual_seed(3)
    network = nn.Sequential(nn.Linear(67, 131), nn.GELU(), nn.Linear(131, 5, bias=False))
    x = torch.randn(7, 67)
    with torch.no_grad():
        expected = network(x)
        with fast_linear(network):
            torch.testing.assert_close(network(x), expected)
    assert not any("forward" in module.__dict__ for module in network.modules())


def test_generation_leaves_the_model_as_it_was():
    model = decoder(dropout=0.5).train()
    model.transformer.blocks[1].eval()
    modes = [module.training for module in model.modules()]
    first, second = (model.generate(PROMPTS, max_new_tokens=3, temperature=0) for _ in range(2))
    assert first == second
    assert [module.training for module in model.modules()] == modes
    model(pack_tokens([[1, 2]]), patterns.Causal()).sum().backward()  # no inference tensors remain
