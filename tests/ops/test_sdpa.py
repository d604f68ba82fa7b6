"""What is special to sdpa: one call per size, masks only where needed, empty rows and samples."""

from __future__ import annotations

import pytest
import torch
from helpers import definition
from helpers.attention_cases import HEADS, inputs, randn
from helpers.awkward import AWKWARD
from torch.nn import functional as F

import graphformer as gf
from graphformer.ops import OffsetBias, sdpa
from graphformer.ops.common import AttentionOptions

PLAIN = AttentionOptions(bias=None, edge_weight=None, dropout=0.0, seed=None, return_weights=False)


@pytest.fixture
def calls(monkeypatch):
    """The keyword arguments of the calls of torch's function."""
    found, function = [], F.scaled_dot_product_attention

    def record(*tensors, **options):
        found.append(options | {"shape": tuple(tensors[0].shape)})
        return function(*tensors, **options)

    monkeypatch.setattr(F, "scaled_dot_product_attention", record)
    return found


@pytest.mark.parametrize(
    ("adjacency", "sizes", "masked"),
    [
        (gf.complete([5, 5, 5]), [(3, 5)], False),
        (gf.complete([3, 7, 3]), [(2, 3), (1, 7)], False),
        (gf.causal([7, 3]), [(1, 7), (1, 3)], False),
        (gf.causal([2], [7]), [(1, 2)], True),
        (gf.window([5, 5], 2), [(2, 5)], True),
        (gf.window([5, 5], 2).to_csr(), [(1, 10)], True),
    ],
    ids=str,
)
def test_one_call_per_size_and_no_mask_without_need(adjacency, sizes, masked, calls):
    q, k, v = inputs(adjacency)
    sdpa.attention(q, k, v, adjacency, scale=0.3, **PLAIN)
    assert [(call["shape"][0], call["shape"][2]) for call in calls] == sizes
    assert all(("attn_mask" in call) == masked for call in calls)
    assert all(call["scale"] == 0.3 for call in calls)


def test_equal_samples_are_views(calls):
    adjacency = gf.complete([5, 5, 5])
    q, k, v = inputs(adjacency)
    out, _ = sdpa.attention(q, k, v, adjacency, scale=1.0, **PLAIN)
    expected, _ = definition.attention(q, k, v, adjacency, scale=1.0)
    torch.testing.assert_close(out, expected, rtol=2e-4, atol=2e-5)
    assert calls[0]["enable_gqa"]


@pytest.mark.parametrize("name", AWKWARD)
def test_bias_per_edge_and_bias_by_offset_together_with_masks(name):
    adjacency = AWKWARD[name]()
    q, k, v = inputs(adjacency)
    bias = randn(adjacency.num_edges, HEADS)
    out = gf.attention(q, k, v, adjacency, bias=bias, backend="sdpa")
    expected = gf.attention(q, k, v, adjacency, bias=bias, backend="reference")
    torch.testing.assert_close(out, expected, rtol=2e-4, atol=2e-5)


def test_rows_without_an_edge_are_zero_with_finite_gradients():
    adjacency = gf.causal([7, 5], [3, 5])  # the first four targets have no source
    q, k, v = (x.requires_grad_() for x in inputs(adjacency))
    out = gf.attention(q, k, v, adjacency, backend="sdpa")
    assert not out[:4].any()
    assert out[4:].all()
    out.square().sum().backward()
    assert all(torch.isfinite(x.grad).all() for x in (q, k, v))
    assert not q.grad[:4].any()


@pytest.mark.parametrize("bias", [None, OffsetBias(torch.zeros(3, 1))])
def test_samples_without_sources(bias):
    adjacency = gf.complete([3, 2], [0, 5])
    q, k, v = inputs(adjacency)
    out = gf.attention(q, k, v, adjacency, bias=bias, backend="sdpa")
    assert not out[:3].any()
    torch.testing.assert_close(out, definition.attention(q, k, v, adjacency)[0])


def test_unsupported_options_are_named():
    assert sdpa.unsupported_reason(PLAIN) is None
    weighted = PLAIN | {"edge_weight": torch.ones(1, 1)}
    assert sdpa.unsupported_reason(weighted) == "cannot multiply logits by edge_weight"
    assert sdpa.unsupported_reason(PLAIN | {"return_weights": True}) == "cannot return weights"


@pytest.mark.parametrize("backend", ["auto", "reference", "sdpa", "cpu", "scatter", "flex"])
def test_autocast_keeps_the_dtype_of_the_values_on_every_backend(backend):
    for adjacency in (gf.complete([3, 4]), gf.complete([3, 3]), gf.window(7, 2)):
        x = randn(adjacency.shape[0], 2, 3)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert gf.attention(x, x, x, adjacency, backend=backend).dtype == x.dtype
