"""Selection of backends: the choices of "auto", and that named backends never fall back."""

from __future__ import annotations

import pytest
import torch

import graphformer as gf
from graphformer import ops
from graphformer.ops.select import auto_backend, is_ragged


def test_auto_selects_by_density_and_sample_sizes():
    plain = {"edge_weight": None, "return_weights": False}
    assert auto_backend("attention", gf.complete(101), plain) == "sdpa"
    assert auto_backend("attention", gf.causal([7, 401]), plain) == "sdpa", "enough pairs per size"
    assert auto_backend("attention", gf.causal([7, 101]), plain) == "cpu"
    assert auto_backend("attention", gf.complete([101, 101]), plain) == "sdpa"
    assert auto_backend("attention", gf.window([7, 11], 5), plain) == "cpu"
    assert auto_backend("attention", gf.window([11, 11], 5), plain) == "sdpa"
    assert auto_backend("attention", gf.window(1009, 2), plain) != "sdpa"
    assert auto_backend("attention", gf.complete(101), plain | {"return_weights": True}) != "sdpa"
    assert auto_backend("additive_attention", gf.complete(101), plain) != "sdpa"


def test_an_explicit_backend_never_falls_back():
    q = torch.ones(5, 2, 3)
    adjacency = gf.complete(5)
    with pytest.raises(ValueError, match="'sdpa', which cannot multiply logits by edge_weight"):
        gf.attention(q, q, q, adjacency, edge_weight=torch.ones(25), backend="sdpa")
    with pytest.raises(ValueError, match="'sdpa', which cannot return weights"):
        gf.attention(q, q, q, adjacency, return_weights=True, backend="sdpa")
    with pytest.raises(ValueError, match="'sdpa', which has no additive_attention"):
        gf.additive_attention(q[..., 0], q[..., 0], q, adjacency, backend="sdpa")
    with pytest.raises(ValueError, match="'sdpa', which has no gatv2_attention"):
        ops.gatv2_attention(q, q, q, q[0], adjacency, backend="sdpa")


def test_is_ragged():
    assert not is_ragged(gf.complete(3)), "one size"
    assert not is_ragged(gf.complete([5] * 7)), "one size"
    assert is_ragged(gf.complete([2, 3, 5, 7]))
    assert not is_ragged(gf.complete([2, 3] + [1009] * 3)), "enough pairs per size"
    assert is_ragged(gf.causal([2, 3], [3, 2])), "sizes are pairs of targets and sources"
