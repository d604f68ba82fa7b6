"""`resolve` and `resolve_single`: every form of an adjacency becomes an adjacency."""

from __future__ import annotations

import networkx
import pytest
import torch
from torch_geometric.data import Data

import graphformer as gf
from graphformer.patterns import (
    Causal,
    Edges,
    Expander,
    PerLayer,
    VirtualNode,
    Window,
    resolve,
    resolve_single,
)

EDGES = torch.tensor([[0, 1, 3], [1, 2, 2]])
BATCH = Data(x=torch.ones(5, 2), edge_index=EDGES, lengths=(4, 1))


def test_each_form_with_a_batch():
    adjacency = gf.complete(5)
    assert resolve(adjacency, BATCH) is adjacency
    assert resolve(Window(1), BATCH) == gf.window((4, 1), 1)
    assert torch.equal(resolve(EDGES, BATCH).edge_index, EDGES)
    assert resolve(EDGES, BATCH).shape == (5, 5)
    assert resolve(EDGES, BATCH) is resolve(EDGES, BATCH), "cached for the tensor"
    sparse = torch.sparse_coo_tensor(EDGES.flip(0), torch.ones(3), (5, 5), check_invariants=True)
    assert resolve(sparse, BATCH).to_mask().sum() == 3


def test_one_per_block():
    adjacency = gf.complete(5)
    blocks = resolve([adjacency, Causal(), EDGES], BATCH)
    assert isinstance(blocks, list)
    assert blocks[0] is adjacency
    assert blocks[1] == gf.causal((4, 1))
    assert torch.equal(blocks[2].edge_index, EDGES)
    assert resolve(PerLayer((Causal(), Window(1))), BATCH) == [
        gf.causal((4, 1)),
        gf.window((4, 1), 1),
    ]


def test_without_a_batch_a_pattern_is_over_one_sample():
    assert resolve(Window(2), num_nodes=7) == gf.window(7, 2)
    assert resolve(Causal(), num_nodes=(7, 7)) == gf.causal(7)
    assert resolve(EDGES, num_nodes=(5, 7)).shape == (5, 7)
    assert resolve(Expander(2), num_nodes=7, device=torch.device("meta")).device.type == "meta"
    with pytest.raises(ValueError, match=r"got the pattern Causal\(\) for 3 targets and 7 sources"):
        resolve(Causal(), num_nodes=(3, 7))
    with pytest.raises(ValueError, match=r"batch\.virtual_mask: got None"):
        resolve(VirtualNode(), num_nodes=7)


def test_resolve_single_refuses_one_per_block():
    assert resolve_single(Edges(), BATCH).num_edges == 3
    assert resolve_single(gf.complete(5)).num_edges == 25
    with pytest.raises(TypeError, match="adjacency: got 2 adjacencies, one per block"):
        resolve_single([Causal(), Causal()], BATCH)
    with pytest.raises(TypeError, match="adjacency: got 2 adjacencies, one per block"):
        resolve([EDGES, PerLayer((Causal(), Window(1)))], BATCH)


@pytest.mark.parametrize("other", [3, "causal", None, networkx.path_graph(3)])
def test_anything_else_is_refused(other: object):
    with pytest.raises(TypeError, match=f"adjacency.*{type(other).__name__}"):
        resolve(other, BATCH)  # type: ignore[arg-type]


def test_modules_take_every_form():
    torch.manual_seed(3)
    x = torch.randn(5, 6)
    attention = gf.nn.MultiHeadAttention(6, 2).eval()
    network = gf.Transformer(dim=6, depth=2, num_heads=2).eval()
    for module in (attention, network):
        expected = module(x, gf.causal(5))
        torch.testing.assert_close(module(x, Causal()), expected, rtol=0, atol=0)
        torch.testing.assert_close(module(x, gf.causal(5).edge_index), expected)
    blocks = [Causal(), EDGES]
    expected = network(x, [gf.causal(5), gf.from_edge_index(EDGES, 5)])
    torch.testing.assert_close(network(x, blocks), expected, rtol=0, atol=0)


def test_attention_functions_take_an_edge_index():
    torch.manual_seed(5)
    q, k = torch.randn(5, 2, 3), torch.randn(7, 2, 3)
    edges = torch.tensor([[6, 0, 2], [1, 4, 4]])
    adjacency = gf.from_edge_index(edges, 5, num_sources=7)
    out = gf.attention(q, k, k, edges)
    torch.testing.assert_close(out, gf.attention(q, k, k, adjacency), rtol=0, atol=0)
    scores = q.sum(-1), k.sum(-1), k
    expected = gf.additive_attention(*scores, adjacency)
    torch.testing.assert_close(gf.additive_attention(*scores, edges), expected, rtol=0, atol=0)
    with pytest.raises(IndexError, match="got source 6"):
        gf.attention(q, q, q, edges)
