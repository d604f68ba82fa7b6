"""The Transformer: its stack, its adjacencies, its batches."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from awkward import AWKWARD
from torch import nn

import graphformer as gf


def make(**options):
    torch.manual_seed(3)
    return gf.Transformer(dim=10, depth=3, num_heads=5, **options)


@pytest.mark.parametrize("norm_first", [True, False])
def test_it_is_its_blocks(norm_first):
    model, x, adjacency = make(norm_first=norm_first), torch.randn(7, 10), gf.window(7, 1)
    expected = x
    for block in model.blocks:
        expected = block(expected, adjacency)
    expected = nn.functional.layer_norm(expected, (10,)) if norm_first else expected
    torch.testing.assert_close(model(x, adjacency), expected)


def test_one_adjacency_a_block():
    model, x = make(), torch.randn(7, 10)
    several = [gf.window(7, 1), gf.complete(7), gf.causal(7)]
    expected = x
    for block, adjacency in zip(model.blocks, several, strict=True):
        expected = block(expected, adjacency)
    torch.testing.assert_close(model(x, several), model.norm(expected))
    with pytest.raises(ValueError, match="adjacency must be one, or one a block: got 2 for 3"):
        model(x, several[:2])


def test_one_set_of_weights_takes_any_adjacency():
    model = make(num_kv_heads=1)
    for make_adjacency in AWKWARD.values():
        adjacency = make_adjacency()
        m, n = adjacency.shape
        if m == n:
            out = model(torch.randn(m, 10), adjacency)
            assert out.shape == (m, 10)
            out.sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    "rule", [gf.complete, gf.causal, lambda n: gf.window(n, 2)], ids=["complete", "causal", "band"]
)
def test_a_packed_batch_is_its_samples(rule):
    model, lengths = make().double(), [3, 7, 0, 3, 1]
    x = torch.randn(14, 10, dtype=torch.float64)
    alone = torch.cat([model(part, rule([len(part)])) for part in x.split(lengths)])
    torch.testing.assert_close(model(x, rule(lengths)), alone)


def test_round_trips():
    model, x, adjacency = make(), torch.randn(7, 10), gf.window(7, 1)
    expected = model(x, adjacency)
    other = make()
    for p in other.parameters():
        nn.init.zeros_(p)
    other.load_state_dict(model.state_dict())
    for twin in (other, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(x, adjacency), expected)


def test_options_reach_every_attention():
    model, x, adjacency = make(), torch.randn(7, 10), gf.window(7, 1)
    bias = torch.randn(adjacency.num_edges)
    assert not torch.allclose(model(x, adjacency, bias=bias), model(x, adjacency))
    with pytest.raises(ValueError, match="backend must be"):
        model(x, adjacency, backend="nothing")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast(dtype):
    model, x, adjacency = make(), torch.randn(7, 10), gf.window(7, 1)
    for backend in ("reference", "sdpa", "scatter", "auto"):
        with torch.autocast("cpu", dtype):
            out = model(x, adjacency, backend=backend)
        out.sum().backward()
        torch.testing.assert_close(out.float(), model(x, adjacency), rtol=0.1, atol=0.1)
