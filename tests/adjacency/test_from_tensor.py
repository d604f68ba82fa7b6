"""Adjacencies of edge_index, EdgeIndex and sparse tensors, and their cache."""

from __future__ import annotations

import warnings

import pytest
import torch
from helpers.awkward import random_edges
from torch_geometric import EdgeIndex

import graphformer as gf
from graphformer.adjacency import as_adjacency, from_tensor


def test_an_adjacency_is_itself():
    adjacency = gf.complete(5)
    assert as_adjacency(adjacency, 7) is adjacency


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_edge_index(dtype):
    edges = random_edges(7, 7, 11).to(dtype)
    adjacency = as_adjacency(edges, 7)
    assert torch.equal(adjacency.edge_index, edges.long())
    assert as_adjacency(edges, 7) is adjacency, "made once for a tensor"
    assert as_adjacency(edges, 11) is not adjacency
    edges[0, 0] = (edges[0, 0] + 1) % 7
    assert as_adjacency(edges, 7) is not adjacency, "made anew after an edit"


def test_pygs_edge_index():
    edges = random_edges(7, 7, 11)
    wrapped = EdgeIndex(edges, sparse_size=(7, 7)).sort_by("col")[0]
    adjacency = as_adjacency(wrapped, 7)
    assert torch.equal(adjacency.edge_index, wrapped.as_tensor())
    assert type(adjacency.edge_index) is torch.Tensor
    assert as_adjacency(wrapped, 7) is adjacency


@pytest.mark.parametrize("layout", ["to_sparse_coo", "to_sparse_csr"])
def test_sparse_tensors_have_a_row_a_target(layout):
    mask = gf.from_edge_index(random_edges(5, 7, 13), (5, 7)).to_mask()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls its sparse tensors a beta
        sparse = getattr(mask.float().to_sparse_coo(), layout)()
        adjacency = as_adjacency(sparse, (5, 7))
    assert torch.equal(adjacency.to_mask(), mask)


def test_dropped_with_the_tensor():
    edges = random_edges(7, 7, 11)
    as_adjacency(edges, 7)
    before = len(from_tensor._CACHE)
    del edges
    assert len(from_tensor._CACHE) == before - 1


def test_adjacencies_of_validation_can_be_trained_with():
    edges, x = random_edges(7, 7, 11), torch.randn(7, 2, 3, requires_grad=True)
    with torch.inference_mode():
        adjacency = as_adjacency(edges, 7)
        from_inference = as_adjacency(random_edges(7, 7, 11), 7)
    for each in (adjacency, from_inference):
        gf.attention(x, x, x, each).sum().backward()


def test_errors():
    with pytest.raises(TypeError, match=r"adjacency: got list, .* from_networkx"):
        as_adjacency([[0], [1]], 2)
    with pytest.raises(TypeError, match="expected integers"):
        as_adjacency(torch.rand(2, 3), 2)
    with pytest.raises(IndexError, match="source 5"):
        as_adjacency(torch.tensor([[5], [0]]), 2)
