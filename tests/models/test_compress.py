from __future__ import annotations

import copy
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from graphformer import models
from graphformer.data import pack_tokens
from graphformer.models.compress import (
    finish_pruning,
    prune_weights,
    quantize_weights,
    sparsity,
    stored_bytes,
)
from graphformer.patterns import Complete

BATCH = pack_tokens([[1, 2, 3], [4, 5, 6, 7, 8]])


def model() -> models.Model:
    torch.manual_seed(0)
    return models.bert(61, dim=32, depth=2, num_heads=2, num_token_types=0).eval()


def test_the_smallest_weights_of_each_map_become_zero() -> None:
    pruned, original = model(), model()
    assert prune_weights(pruned, 0.25) == pytest.approx(0.25)
    for name, module in original.transformer.blocks.named_modules():
        if isinstance(module, nn.Linear):
            weight = pruned.transformer.blocks.get_submodule(name).weight
            limit = module.weight.abs().flatten().sort().values[module.weight.numel() // 4]
            assert torch.equal(weight, module.weight * (module.weight.abs() >= limit))
    assert torch.equal(pruned.embedding.features.weight, original.embedding.features.weight)


def test_a_share_of_all_maps_together() -> None:
    pruned = model()
    with torch.no_grad():
        pruned.transformer.blocks[0].attention.qkv.weight.mul_(100)
    assert prune_weights(pruned, 0.5, scope="model") == pytest.approx(0.5, abs=1e-4)
    first = pruned.transformer.blocks[0].attention.qkv.weight
    assert (first == 0).float().mean() < 0.1


def test_training_keeps_the_zeros_and_finishing_the_outputs(tmp_path: Path) -> None:
    pruned = model()
    prune_weights(pruned, 0.5)
    optimizer = torch.optim.SGD(pruned.parameters(), lr=0.1)
    pruned(BATCH, Complete()).square().sum().backward()
    optimizer.step()
    assert sparsity(pruned) == pytest.approx(0.5)
    before = pruned(BATCH, Complete())
    torch.testing.assert_close(finish_pruning(pruned)(BATCH, Complete()), before)
    torch.save(pruned.state_dict(), tmp_path / "pruned.pt")
    loaded = model()
    loaded.load_state_dict(torch.load(tmp_path / "pruned.pt", weights_only=True))
    assert sparsity(loaded) == pytest.approx(0.5)
    torch.testing.assert_close(loaded(BATCH, Complete()), before)


def test_pruning_again_prunes_the_rest() -> None:
    pruned = model()
    prune_weights(pruned, 0.5)
    assert prune_weights(pruned, 0.5) == pytest.approx(0.75)


@pytest.mark.parametrize("embedding", [False, True])
def test_eight_bits_round_by_half_a_step_of_each_row(embedding: bool) -> None:
    pytest.importorskip("torchao")
    original = model()
    quantized = quantize_weights(copy.deepcopy(original), embedding=embedding)
    for name, module in original.named_modules():
        if isinstance(module, nn.Linear):
            rounded = quantized.get_submodule(name).weight.dequantize()
            step = module.weight.abs().amax(1, keepdim=True) / 127
            assert ((rounded - module.weight).abs() <= 0.51 * step).all()
    with torch.no_grad():
        outputs = [m(BATCH, Complete()) for m in (original, quantized)]
    assert not torch.equal(*outputs)
    assert torch.cosine_similarity(*outputs, dim=-1).min() > 0.999
    assert stored_bytes(quantized) < 0.7 * stored_bytes(original)


def test_torchao_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchao", None)
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(ModuleNotFoundError, match=r"torchao; install it with pip install"):
        quantize_weights(model())


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"share: got 1\.0, expected at least 0 and below 1"):
        prune_weights(model(), 1.0)
    with pytest.raises(ValueError, match="model: got Linear, expected one with linear maps in"):
        sparsity(nn.Linear(2, 2))
