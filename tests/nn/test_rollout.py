"""Attention rollout: dense, and by edges, against the product of matrices."""

from __future__ import annotations

import pytest
import torch
from helpers.awkward import random_edges

import graphformer as gf
from graphformer.nn import record_attention
from graphformer.nn.record import AttentionRecord
from graphformer.nn.rollout import attention_from, dense_attention, rollout, rollout_from

NODES, HEADS = 11, 3


@pytest.fixture
def records() -> list[AttentionRecord]:
    torch.manual_seed(3)
    model = gf.Transformer(6, 3, HEADS)
    adjacency = [gf.window(NODES, 2), gf.from_edge_index(random_edges(NODES, NODES, 37), NODES)]
    with record_attention(model) as recorded:
        model(torch.randn(NODES, 6), [*adjacency, gf.complete(NODES)])
    return recorded


def test_dense_attention_is_the_mean_over_heads_at_each_edge(records):
    for record in records:
        matrix = dense_attention(record)
        source, target = record.adjacency.edge_index
        torch.testing.assert_close(matrix[target, source], record.weights.mean(1).detach())
        assert not matrix[~record.adjacency.to_mask()].any()
        assert not matrix.requires_grad


def test_dense_attention_of_sources_that_are_others():
    attention = gf.nn.MultiHeadAttention(6, HEADS)
    with record_attention(attention) as (recorded):
        attention(torch.randn(2, 6), gf.complete(2, 5), torch.randn(5, 6))
    matrix = dense_attention(recorded[0])
    assert matrix.shape == (2, 5)
    torch.testing.assert_close(matrix.sum(1), torch.ones(2))


def test_rollout_is_the_product_of_mixed_matrices(records):
    expected = torch.eye(NODES)
    for record in records:
        mixed = dense_attention(record) + torch.eye(NODES)
        expected = mixed / mixed.sum(1, keepdim=True) @ expected
    out = rollout(records)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(out.sum(1), torch.ones(NODES))


def test_by_edges_as_by_matrices(records):
    share = torch.rand(NODES)
    torch.testing.assert_close(
        attention_from(records[1], share), share @ dense_attention(records[1])
    )
    torch.testing.assert_close(rollout_from(records, share), share @ rollout(records))


def test_no_records():
    with pytest.raises(ValueError, match="records: got none"):
        rollout([])
    share = torch.rand(NODES)
    assert torch.equal(rollout_from([], share), share)
