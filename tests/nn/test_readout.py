"""Pooling and heads against PyG's aggregations and their formulas."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch_geometric.data import Data
from torch_geometric.nn.aggr import AttentionalAggregation
from torch_geometric.nn.aggr.utils import PoolingByMultiheadAttention
from torch_geometric.utils import to_dense_batch

from graphformer.nn import AttentionPool, Head, PairHead, SetPool
from graphformer.nn.readout import PooledHead, graph_head

DIM = 14
LENGTHS = (5, 1, 7, 3)
SAMPLE = torch.arange(4).repeat_interleave(torch.tensor(LENGTHS))


def randn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def test_attention_pool_is_pygs():
    gate = nn.Linear(DIM, 1).double()
    pool = AttentionPool(DIM).double()
    with torch.no_grad():
        pool.score.weight.copy_(gate.weight)
    x = randn(16, DIM)
    torch.testing.assert_close(pool(x, LENGTHS), AttentionalAggregation(gate)(x, SAMPLE))
    empty = pool(x, (16, 0))
    assert torch.equal(empty[1], torch.zeros(DIM).double())


@pytest.mark.parametrize("seeds", [1, 3])
def test_set_pool_is_pygs(seeds):
    ours = SetPool(DIM, 2, seeds=seeds).double()
    other = PoolingByMultiheadAttention(DIM, seeds, heads=2, layer_norm=True).double()
    block = other.mab
    with torch.no_grad():
        ours.seeds.copy_(other.seed[0])
        ours.features[0].load_state_dict(other.lin.state_dict())
        ours.attention.qkv.weight.copy_(block.attn.in_proj_weight)
        ours.attention.qkv.bias.copy_(block.attn.in_proj_bias.normal_())
        ours.attention.out.load_state_dict(block.attn.out_proj.state_dict())
        ours.mlp[0].load_state_dict(block.lin.state_dict())
    x = randn(16, DIM)
    expected = other(*to_dense_batch(x, SAMPLE)).flatten(1)
    torch.testing.assert_close(ours(x, LENGTHS), expected)


@pytest.mark.parametrize("pool", ["attention", "set"])
def test_pooling_is_invariant_to_order_and_to_other_samples(pool):
    head = graph_head(DIM, 3, pool=pool, num_heads=2).double()
    assert isinstance(head, PooledHead)
    x, batch = randn(16, DIM), Data(lengths=LENGTHS)
    out = head(x, batch)
    assert out.shape == (4, 3)
    order = torch.cat([torch.randperm(5), torch.arange(5, 16)])
    torch.testing.assert_close(head(x[order], batch), out)
    changed = x.clone()
    changed[6:13] += 1
    assert torch.equal(head(changed, batch)[[0, 1, 3]], out[[0, 1, 3]])


def test_pairs():
    x, pairs = randn(7, DIM), torch.tensor([[0, 6, 2], [3, 3, 2]])
    batch = Data(edge_label_index=pairs, edge_index=torch.tensor([[1], [2]]))
    dot = PairHead(DIM, 1, "dot")(x, batch)
    torch.testing.assert_close(dot.squeeze(1), torch.stack([x[0] @ x[3], x[6] @ x[3], x[2] @ x[2]]))
    head = PairHead(DIM, 5, "mlp").double()
    expected = head.mlp(torch.cat([x[[0, 6, 2]], x[[3, 3, 2]]], dim=1))
    torch.testing.assert_close(head(x, batch), expected)
    assert head(x, Data(edge_index=torch.tensor([[1], [2]]))).shape == (1, 5)
    assert head(x, Data(edge_index=torch.empty(2, 0, dtype=torch.int64))).shape == (0, 5)


def test_heads():
    assert isinstance(graph_head(DIM, 3, pool="mean"), Head)
    assert isinstance(graph_head(DIM, 3), Head)
    assert isinstance(graph_head(DIM, 1, pairs="dot"), PairHead)
    with pytest.raises(ValueError, match="pool, pairs: got 'mean' and 'mlp', expected only one"):
        graph_head(DIM, 3, pool="mean", pairs="mlp")
    with pytest.raises(ValueError, match="pairs: got 'dot' with 3 values per pair, expected 1"):
        graph_head(DIM, 3, pairs="dot")
    with pytest.raises(ValueError, match="pairs: got 'sum', expected 'dot' or 'mlp'"):
        graph_head(DIM, 3, pairs="sum")
    with pytest.raises(ValueError, match=r"batch\.edge_index: got None, expected a tensor"):
        PairHead(DIM, 3, "mlp")(randn(3, DIM), Data())
