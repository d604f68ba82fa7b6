"""NaN and infinity do not cross samples, forward and backward, with any backend."""

from __future__ import annotations

import pytest
import torch
from helpers.attention_cases import randn
from helpers.awkward import random_edges

import graphformer as gf

EDGES = [gf.from_edge_index(random_edges(n, n, 2 * n), n).with_self_loops() for n in (5, 7)]
ADJACENCIES = {
    "complete": gf.complete([5, 7]),
    "causal": gf.causal([5, 7]),
    "window": gf.window([5, 7], 2),
    "union": gf.window([5, 7], 2) | gf.causal([5, 7]),
    "edges": gf.batch(EDGES),
}
BACKENDS = ["auto", "reference", "sdpa", "cpu", "scatter", "flex"]


def run(adjacency, backend, tensors):
    needs_grad = backend != "flex"  # which cannot train on a CPU
    q, k, v = (x.clone().requires_grad_(needs_grad) for x in tensors)
    out = gf.attention(q, k, v, adjacency, backend=backend)
    if needs_grad:
        out[:5].square().sum().backward()  # the loss of the first sample
    return [out.detach()[:5], *(x.grad[:5] for x in (q, k, v) if x.grad is not None)], out.detach()


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("place", ["q", "k", "v"])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ADJACENCIES)
def test_invalid_numbers_stay_in_their_sample(name, backend, place, value):
    if backend == "flex" and name == "edges":
        pytest.skip("flex runs rules only")
    adjacency = ADJACENCIES[name]
    tensors = [randn(12, 2, 3, seed=i) for i in range(3)]
    expected, _ = run(adjacency, backend, tensors)
    tensors["qkv".index(place)][5 + 3, 1, 2] = value
    found, out = run(adjacency, backend, tensors)
    torch.testing.assert_close(found, expected)
    if place != "q" and value != torch.inf:  # torch's kernel gives numbers for queries of NaN
        assert out[5:].isnan().any()


def test_a_masked_product_over_edges_passes_nan_along_edges_only():
    adjacency, q = gf.from_edge_index(torch.tensor([[0, 1], [1, 2]]), 4), randn(4, 2, 3)
    v = q.clone()
    v[1] = torch.nan
    out = gf.attention(q, q, v, adjacency, backend="sdpa")
    assert out.isnan().any(-1).any(-1).tolist() == [False, False, True, False]
