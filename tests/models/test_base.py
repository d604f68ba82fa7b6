"""The default adjacency of a model: shared weights, one pattern for each layer, errors."""

from __future__ import annotations

import pytest
import torch
from torch_geometric.data import Data

import graphformer as gf
from graphformer import models
from graphformer.models.base import AdjacencyModel
from graphformer.patterns import (
    Causal,
    Complete,
    GlobalNodes,
    Learned,
    Offsets,
    PerHead,
    PerLayer,
    Window,
    save_pattern,
)

LENGTHS = (5, 7, 3)


def batch() -> Data:
    x = torch.randint(11, (15,), generator=torch.Generator().manual_seed(3))
    pos = torch.cat([torch.arange(n) for n in LENGTHS])
    return Data(x=x, pos=pos, lengths=LENGTHS, num_nodes=15)


@pytest.fixture
def model() -> models.Model:
    torch.manual_seed(0)
    return models.language_model(11, dim=12, depth=2, num_heads=3).eval()


def test_the_same_weights_over_other_edges(model):
    other = model.with_adjacency(Window(1))
    torch.testing.assert_close(other(batch()), model(batch(), gf.window(LENGTHS, 1)))
    assert model.adjacency is None
    with torch.no_grad():
        model.transformer.blocks[0].attention.qkv.weight.zero_()
    torch.testing.assert_close(other(batch()), model(batch(), Window(1)))
    assert [id(p) for p in other.parameters()] == [id(p) for p in model.parameters()]


def test_a_pattern_in_the_call_comes_first(model):
    other = model.with_adjacency(Window(1))
    torch.testing.assert_close(other(batch(), Complete()), model(batch(), gf.complete(LENGTHS)))
    torch.testing.assert_close(
        other(batch(), [Causal(), gf.window(LENGTHS, 2)]),
        model(batch(), [gf.causal(LENGTHS), gf.window(LENGTHS, 2)]),
    )


@pytest.mark.parametrize("several", [[Window(1), Causal()], PerLayer((Window(1), Causal()))])
def test_a_pattern_a_block(model, several):
    out = model.with_adjacency(several)(batch())
    torch.testing.assert_close(out, model(batch(), [gf.window(LENGTHS, 1), gf.causal(LENGTHS)]))
    assert not torch.allclose(out, model(batch(), [gf.causal(LENGTHS), gf.window(LENGTHS, 1)]))


def test_a_pattern_a_head_differs_from_any_one_of_them(model):
    heads = PerHead((Window(1), Causal(), GlobalNodes()))
    out = model.with_adjacency(heads)(batch())
    assert not any(torch.allclose(out, model(batch(), one), atol=1e-4) for one in heads.patterns)
    same = model.with_adjacency(PerHead((Window(1),) * 3))(batch())
    torch.testing.assert_close(same, model(batch(), Window(1)))


def test_generation_uses_it(model):
    window = model.with_adjacency(Window(2, causal=True))
    options = {"max_new_tokens": 13, "temperature": 0}
    expected = model.generate([1, 2, 3, 4], adjacency=Window(2, causal=True), **options)
    assert window.generate([1, 2, 3, 4], **options) == expected
    layers = model.with_adjacency([Causal(), Window(1, causal=True)])
    assert layers.generate([1, 2, 3, 4], **options) == layers.generate(
        [1, 2, 3, 4], cache=False, **options
    )
    far = model.with_adjacency(Offsets((-4, -1, 0), sources=(0,)) & Causal())
    assert len(far.generate([1, 2, 3, 4], cache=False, **options)) == 17
    with pytest.raises(ValueError, match="cannot be decoded with a cache"):
        far.generate([1, 2, 3, 4], **options)


def test_wrong_use(model):
    with pytest.raises(ValueError, match="adjacency: got None, .* pass a pattern"):
        model(batch())
    with pytest.raises(ValueError, match="pattern: got 3 patterns, .* of the 2 layers"):
        model.with_adjacency([Causal()] * 3)
    with pytest.raises(ValueError, match="pattern: got 1 patterns, expected one"):
        model.with_adjacency(PerLayer((Causal(),)))


def test_a_learned_pattern_is_read_from_its_file(model, tmp_path):
    path = tmp_path / "pattern.json"
    save_pattern(Window(1), path)
    other = model.with_adjacency(Learned(str(path)))
    assert other.adjacency == Window(1)


def test_a_model_is_one_layer_unless_it_says_otherwise(model):
    adjacency = Window(1)(batch())
    sequence = model.layer_sequence(batch(), adjacency)
    assert not sequence.is_local
    (layer,) = sequence.layers
    out = sequence.output([layer.apply(sequence.x, adjacency)])
    torch.testing.assert_close(out, model(batch(), adjacency))


def test_a_subclass_must_have_a_depth():
    with pytest.raises(NotImplementedError):
        AdjacencyModel().with_adjacency([Window(1)])
