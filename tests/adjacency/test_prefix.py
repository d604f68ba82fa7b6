"""The prefix rule against its definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import graphformer as gf
from graphformer.adjacency.prefix import Prefix

BLOCK = st.tuples(st.integers(0, 7), st.integers(0, 9))


@given(st.lists(BLOCK, max_size=4))
def test_a_target_attends_to_the_prefix_and_to_earlier_sources(blocks):
    adjacency = Prefix(tuple(blocks))
    parts = [
        [[j <= i or j < prefix for j in range(length)] for i in range(length)]
        for length, prefix in blocks
    ]
    expected = torch.block_diag(
        *(torch.tensor(p).reshape(len(p), len(p)) for p in parts), torch.zeros(0, 0)
    )
    assert torch.equal(adjacency.to_mask(), expected.bool())
    assert adjacency.num_edges == int(expected.sum())
    assert adjacency.lengths == adjacency.source_lengths == tuple(n for n, _ in blocks)
    targets, sources = torch.meshgrid(*(torch.arange(n) for n in adjacency.shape), indexing="ij")
    present = adjacency.contains(targets.flatten(), sources.flatten())
    assert torch.equal(present.view(adjacency.shape), expected.bool())


@pytest.mark.parametrize("backend", ["auto", "sdpa", "cpu"])
def test_attention(backend):
    adjacency = Prefix(((7, 3), (5, 0), (7, 3), (3, 3)))
    q, k, v = (torch.randn(22, 2, 5, dtype=torch.float64) for _ in range(3))
    expected = gf.attention(q, k, v, adjacency.to_csr(), backend="reference")
    torch.testing.assert_close(gf.attention(q, k, v, adjacency, backend=backend), expected)
