"""The edges of PyG layers: duplicates, replaced self-loops, and the cache by tensor."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from helpers.twins import C, F, H, N, edges
from torch_geometric.nn import GAT
from torch_geometric.utils import add_self_loops, remove_self_loops

import graphformer as gf
from graphformer.adjacency.from_tensor import _CACHE
from graphformer.pyg.edges import layer_edges


def test_duplicates_and_self_loops_are_kept():
    edge_index = torch.tensor([[0, 0, 2, 1], [1, 1, 2, 0]])
    adjacency, with_loops, non_loops = layer_edges(edge_index, (3, 3))
    assert torch.equal(adjacency.edge_index, edge_index)
    assert not adjacency.is_coalesced
    assert with_loops is None
    assert non_loops is None


@pytest.mark.parametrize("num_loops", [0, 2, 3])
def test_self_loops_are_replaced_as_in_pyg(num_loops):
    edge_index = torch.tensor([[0, 0, 2, 1], [1, 1, 2, 0]])
    adjacency, with_loops, non_loops = layer_edges(edge_index, (3, 3), num_loops)
    expected, _ = remove_self_loops(edge_index)
    expected, _ = add_self_loops(expected, num_nodes=num_loops)
    assert torch.equal(with_loops, expected)
    assert torch.equal(adjacency.edge_index, expected)
    assert non_loops.tolist() == [True, True, False, True]


def test_without_self_loops_all_edges_are_kept():
    edge_index = torch.tensor([[0, 2], [1, 0]])
    _, with_loops, non_loops = layer_edges(edge_index, (3, 3), 3)
    assert with_loops.shape == (2, 5)
    assert non_loops is None


def test_cached_by_shape_and_loops():
    edge_index = torch.tensor([[0, 2], [1, 0]])
    first = layer_edges(edge_index, (3, 3), 3)
    assert layer_edges(edge_index, (3, 3), 3) is first
    assert layer_edges(edge_index, (3, 3)) is not first
    assert layer_edges(edge_index, (5, 3), 3).adjacency.shape == (5, 3)
    edge_index[1, 0] = 2
    assert layer_edges(edge_index, (3, 3), 3).adjacency.edge_index[1, 0] == 2


def test_computed_once_per_tensor_and_freed_with_it(monkeypatch):
    from graphformer.pyg import edges as module

    computed = []
    plain = module.from_edge_index
    monkeypatch.setattr(
        module, "from_edge_index", lambda *a, **k: computed.append(plain(*a, **k)) or computed[-1]
    )
    model = gf.accelerate(GAT(F, H * C, 2, heads=H), quiet=True)
    edge_index, x = edges(), torch.randn(N, F)
    with torch.inference_mode():
        model(x, edge_index)
    for _ in range(3):
        model(x, edge_index).sum().backward()
    assert len(computed) == 1
    edge_index[:, 0] = edge_index[:, 1]
    theirs = GAT(F, H * C, 2, heads=H)
    theirs.load_state_dict(model.state_dict())
    torch.testing.assert_close(model(x, edge_index), theirs(x, edge_index), rtol=1e-4, atol=1e-5)
    assert len(computed) == 2
    number, gone = len(_CACHE), weakref.ref(edge_index)
    del edge_index
    gc.collect()
    assert gone() is None
    assert len(_CACHE) < number
