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


@pytest.mark.parametrize("prompts", [PROMPTS, PROMPTS[:1]], ids=["texts", "text"])
def test_bfloat16_weights_give_the_text_of_the_rounded_network(prompts):
    model = decoder()
    found = model.generate(prompts, weight_dtype="bfloat16", temperature=0, max_new_tokens=7)
    assert not any("forward" in module.__dict__ for module in model.modules())
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                module.weight.copy_(module.weight.bfloat16())
    assert found == model.generate(prompts, temperature=0, max_new_tokens=7)


def test_rounded_layers_follow_their_weights():
    network = nn.Sequential(nn.Embedding(11, 16), nn.Linear(16, 19), nn.Linear(19, 5))
    ids = torch.tensor([3, 7, 10])
    for _ in range(2):
        expected = ids
        for module in network:
            weight = module.weight.bfloat16().float()
            if isinstance(module, nn.Embedding):
                expected = weight[ids]
            else:
                expected = nn.functional.linear(expected, weight, module.bias)
        with torch.no_grad(), fast_linear(network, "bfloat16"):
            torch.testing.assert_close(network(ids), expected)
        with torch.no_grad():
            network[1].weight.mul_(1.37)


def test_another_weight_dtype_is_refused():
    with pytest.raises(ValueError, match="weight_dtype: got 'int8', expected float32 or bfloat16"):
        decoder().generate(PROMPTS, max_new_tokens=1, weight_dtype="int8")
