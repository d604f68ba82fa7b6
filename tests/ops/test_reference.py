"""The reference by hand on graphs small enough to write out, and against dense formulas."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import definition
from helpers.attention_cases import randn
from helpers.awkward import AWKWARD

import graphformer as gf
from graphformer.ops import edge_feature_attention, gatv2_attention, reference
from graphformer.ops.common import AttentionOptions

PLAIN = AttentionOptions(bias=None, edge_weight=None, dropout=0.0, seed=None, return_weights=True)
# Target 0 has sources 1 and 2, target 1 has source 0, target 2 none; in this edge order
EDGES = gf.from_edge_index(torch.tensor([[2, 0, 1], [0, 1, 0]]), 3).to_csr()


def test_attention_by_hand():
    q = torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1)
    k = torch.tensor([5.0, 0.0, math.log(3) / 2]).view(3, 1, 1)
    v = torch.tensor([7.0, 10.0, 20.0]).view(3, 1, 1)
    out, weights = reference.attention(q, k, v, EDGES, scale=2.0, **PLAIN)
    # logits 2 q k: ln 3 on the edge from 2, 0 on the edge from 1
    torch.testing.assert_close(weights, torch.tensor([[0.75], [1.0], [0.25]]))
    torch.testing.assert_close(out.flatten(), torch.tensor([17.5, 7.0, 0.0]))


def test_additive_attention_by_hand():
    target, source = torch.tensor([[1.0], [0.0], [0.0]]), torch.tensor([[0.0], [2.0], [-6.0]])
    v = torch.tensor([7.0, 10.0, 20.0]).view(3, 1, 1)
    out, weights = reference.additive_attention(
        target, source, v, EDGES, negative_slope=0.5, **PLAIN
    )
    first = torch.tensor([-2.5, 3.0]).softmax(0)  # leaky_relu(1 - 6), leaky_relu(1 + 2)
    torch.testing.assert_close(
        weights.flatten(), torch.stack([first[0], torch.tensor(1.0), first[1]])
    )
    torch.testing.assert_close(out[0, 0], 20 * first[:1] + 10 * first[1:])


def test_edge_weight_multiplies_before_the_bias():
    q = torch.ones(3, 1, 1)
    options = PLAIN | {
        "edge_weight": torch.tensor([[2.0], [3.0], [5.0]]),
        "bias": torch.tensor([[7.0], [11.0], [13.0]]),
    }
    _, weights = reference.attention(q, q, q, EDGES, scale=0.5, **options)
    expected = torch.tensor([0.5 * 2 + 7, 0.5 * 5 + 13]).softmax(0)
    torch.testing.assert_close(weights[[0, 2], 0], expected)


@pytest.mark.parametrize("name", AWKWARD)
def test_edge_features_are_projected_keys_and_values_of_edges(name):
    """On a complete set of pairs: attention over one target at a time with its own keys."""
    adjacency = AWKWARD[name]()
    (m, n), e = adjacency.shape, adjacency.num_edges
    q, k, v = randn(m, 2, 5), randn(n, 2, 5, seed=1), randn(n, 2, 3, seed=2)
    edge_attr, key_map, value_map = randn(e, 7), randn(2, 5, 7, seed=3), randn(2, 3, 7, seed=4)
    out = edge_feature_attention(
        q, k, v, edge_attr, key_map, value_map, adjacency, backend="reference"
    )
    source, target = adjacency.edge_index
    keys = k[source] + torch.einsum("hdf,ef->ehd", key_map, edge_attr)
    values = v[source] + torch.einsum("hdf,ef->ehd", value_map, edge_attr)
    expected = torch.zeros(m, 2, 3)
    for i in target.unique().tolist():
        edges = target == i
        p = ((q[i] * keys[edges]).sum(-1) * 5**-0.5).softmax(0)
        expected[i] = (p.unsqueeze(-1) * values[edges]).sum(0)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)


def test_gatv2_with_edge_keys_is_gatv2_of_longer_keys():
    """An edge key on the only edge between two nodes acts like a part of the key."""
    adjacency = AWKWARD["random"]()
    q, k, v = randn(17, 2, 5), randn(17, 2, 5, seed=1), randn(17, 2, 3, seed=2)
    weight, shift = randn(2, 5, seed=3), randn(17, 2, 5, seed=4)
    source, _ = adjacency.edge_index
    out = gatv2_attention(q, k, v, weight, adjacency, edge_key=shift[source], backend="reference")
    expected, _ = definition.gatv2_attention(q, k + shift, v, weight, adjacency)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)


def test_segment_softmax():
    segment = torch.tensor([1, 0, 1, 3, 3])
    logits = torch.tensor([2.0, -5.0, 2.0, -torch.inf, -torch.inf]).unsqueeze(1)
    weights = reference.segment_softmax(logits, segment, 4)
    torch.testing.assert_close(weights.flatten(), torch.tensor([0.5, 1.0, 0.5, 0.0, 0.0]))
    large = reference.segment_softmax(logits.clamp(-9, 9) * 1e30, segment, 4)
    assert torch.isfinite(large).all()
    assert reference.segment_softmax(logits[:0], segment[:0], 2).shape == (0, 1)
