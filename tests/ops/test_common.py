"""Dropout by counter, and what else the backends share."""

from __future__ import annotations

import pytest
import torch
from helpers.awkward import AWKWARD

import graphformer as gf
from graphformer.ops.common import dropout_mask, per_head
from graphformer.ops.select import BACKENDS

COUNTED = [name for name in BACKENDS if name != "sdpa"]  # sdpa draws torch's own numbers
MASK = 2**64 - 1


def slow_keep(slot: int, head: int, heads: int, dropout: float, seed: int) -> bool:
    """splitmix64 in Python's unbounded integers."""
    z = (seed + (slot * heads + head + 1) * 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return ((z ^ (z >> 31)) >> 40) >= round(dropout * 2**24)


@pytest.mark.parametrize("seed", [0, 1, 1234567, 2**63 - 2])
@pytest.mark.parametrize("dropout", [0.1, 0.5, 0.93])
def test_keep_is_splitmix64(seed, dropout):
    edges, heads = 101, 3
    expected = [[slow_keep(s, h, heads, dropout, seed) for h in range(heads)] for s in range(edges)]
    assert dropout_mask(edges, heads, dropout, torch.tensor(seed)).tolist() == expected


@pytest.mark.parametrize("dropout", [0.05, 0.3, 0.8])
def test_keep_rate(dropout):
    edges, heads = 100_003, 2
    kept = dropout_mask(edges, heads, dropout, torch.tensor(7)).double()
    deviation = (dropout * (1 - dropout) / edges) ** 0.5
    assert (kept.mean(0) - (1 - dropout)).abs().max() < 5 * deviation
    # Neighbouring edges, neighbouring heads and another seed have nothing to do with it.
    other = dropout_mask(edges, heads, dropout, torch.tensor(8)).double()
    for a, b in ((kept[1:, 0], kept[:-1, 0]), (kept[:, 0], kept[:, 1]), (kept[:, 0], other[:, 0])):
        assert torch.corrcoef(torch.stack([a, b]))[0, 1].abs() < 5 / edges**0.5


@pytest.mark.parametrize("name", ["duplicates", "window", "isolated", "bipartite", "no-edges"])
@pytest.mark.parametrize("backend", COUNTED)
def test_all_backends_drop_the_same_weights(name, backend):
    adjacency = AWKWARD[name]()
    m, n = adjacency.shape

    def run(backend):
        generator = torch.Generator().manual_seed(3)
        q, k, v = (
            torch.randn(size, 4, 5, generator=generator, dtype=torch.float64).requires_grad_()
            for size in (m, n, n)
        )
        torch.manual_seed(11)
        out, weights = gf.attention(
            q, k, v, adjacency, dropout=0.4, backend=backend, return_weights=True
        )
        return out, weights, *torch.autograd.grad(out.square().sum(), (q, k, v))

    for got, expected in zip(run(backend), run("reference"), strict=True):
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("backend", ["auto", *BACKENDS])
def test_dropout_keeps_the_expectation(backend):
    n, heads = 7, 4001
    v = torch.rand(n, 1, 2, generator=torch.Generator().manual_seed(1)).expand(n, heads, 2)
    q = torch.zeros(n, heads, 3)
    torch.manual_seed(5)
    out = gf.attention(q, q, v, gf.complete(n), dropout=0.5, backend=backend)
    plain = gf.attention(q, q, v, gf.complete(n), backend=backend)
    assert not torch.allclose(out, plain)
    torch.testing.assert_close(out.mean(1), plain.mean(1), rtol=0.05, atol=0.02)


@pytest.mark.parametrize("backend", COUNTED)
def test_returned_weights_are_those_that_were_applied(backend):
    adjacency = AWKWARD["random"]()
    q = torch.randn(17, 2, 3, generator=torch.Generator().manual_seed(1))
    options = {"backend": backend, "return_weights": True}
    out, weights = gf.attention(q, q, q, adjacency, dropout=0.5, **options)
    source, target = adjacency.edge_index
    expected = torch.zeros_like(q).index_add(0, target, weights.unsqueeze(-1) * q[source])
    torch.testing.assert_close(out, expected)
    _, plain = gf.attention(q, q, q, adjacency, **options)
    torch.testing.assert_close(weights, torch.where(weights > 0, 2 * plain, 0))


def test_per_head_repeats_each_key_head_in_a_row():
    x = torch.arange(2 * 3).view(1, 3, 2)
    assert per_head(x, 6)[0, :, 0].tolist() == [0, 0, 2, 2, 4, 4]
    assert per_head(x, 3) is x
