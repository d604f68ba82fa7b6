"""Parts of graph networks against PyG's layers and their definitions."""

from __future__ import annotations

import pytest
import torch
import torch_geometric.nn as pyg
from helpers.awkward import random_edges
from torch import nn
from torch_geometric.nn import JumpingKnowledge

import graphformer as gf
from graphformer.nn import (
    EdgeFeatureAttention,
    EgoSeparation,
    FeedForward,
    HybridBlock,
    JumpingTransformer,
    MultiHeadAttention,
    ResidualBlock,
    Rotary,
)
from graphformer.nn.graph import NodeNorm, build_transformer, combine_layers

DIM, HEADS, FEATURES = 14, 2, 5
EDGES = random_edges(11, 11, 37)


def randn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def test_edge_features_are_pygs():
    ours = EdgeFeatureAttention(DIM, HEADS, FEATURES).double()
    other = pyg.TransformerConv(DIM, DIM // HEADS, HEADS, edge_dim=FEATURES, root_weight=False)
    other = other.double()
    with torch.no_grad():
        for part, layer in zip(range(3), ("lin_query", "lin_key", "lin_value"), strict=True):
            rows = slice(part * DIM, (part + 1) * DIM)
            ours.qkv.weight[rows] = getattr(other, layer).weight
            ours.qkv.bias[rows] = getattr(other, layer).bias
        ours.edge_key.weight[:] = other.lin_edge.weight
        ours.edge_value.weight[:] = other.lin_edge.weight
        ours.out.weight[:] = torch.eye(DIM)
        ours.out.bias.zero_()
    x, features = randn(11, DIM), randn(37, FEATURES)
    expected, (_, alpha) = other(x, EDGES, features, return_attention_weights=True)
    adjacency = gf.from_edge_index(EDGES, 11)
    out, weights = ours(x, adjacency, edge_attr=features, return_weights=True)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(weights, alpha)
    torch.testing.assert_close(ours(x, EDGES, edge_attr=features), expected)


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="num_heads: got 3, expected a divisor of dim 14"):
        EdgeFeatureAttention(DIM, 3, FEATURES)


@pytest.mark.parametrize("lengths", [(11,), (5, 0, 1, 5), (3, 7, 1)])
@pytest.mark.parametrize("norm", ["layer_norm", "batch_norm"])
def test_a_hybrid_block_is_gps(lengths, norm):
    nodes = sum(lengths)
    batch = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    local = pyg.GINConv(nn.Linear(DIM, DIM))
    options = {"mode": "node"} if norm == "layer_norm" else {}
    other = pyg.GPSConv(DIM, local, heads=HEADS, norm=norm, norm_kwargs=options).double().eval()
    attention = MultiHeadAttention(DIM, HEADS)
    mlp = FeedForward(DIM, 2 * DIM, activation=nn.ReLU)
    kind = nn.LayerNorm if norm == "layer_norm" else nn.BatchNorm1d
    block = HybridBlock(local, attention, mlp, kind(DIM), kind(DIM), kind(DIM)).double().eval()
    with torch.no_grad():
        attention.qkv.weight.copy_(other.attn.in_proj_weight)
        attention.qkv.bias.copy_(other.attn.in_proj_bias.normal_())
        attention.out.load_state_dict(other.attn.out_proj.state_dict())
        mlp[0].load_state_dict(other.mlp[0].state_dict())
        mlp[3].load_state_dict(other.mlp[3].state_dict())
        for ours, name in ((block.norm1, "norm1"), (block.norm2, "norm2"), (block.norm3, "norm3")):
            theirs = getattr(other, name)
            theirs = getattr(theirs, "module", theirs)
            theirs.weight.uniform_(0.5, 2)
            ours.load_state_dict(theirs.state_dict())
    x = randn(nodes, DIM)
    edges = torch.cat([EDGES, torch.arange(11).expand(2, -1)], dim=1)
    edges = edges[:, batch[edges[0]] == batch[edges[1]]]
    expected = other(x, edges, batch)
    torch.testing.assert_close(block(x, gf.complete(lengths), local_edge_index=edges), expected)


def test_local_layers_receive_edge_features():
    local = pyg.GINEConv(nn.Linear(DIM, DIM), edge_dim=FEATURES)
    norms = [nn.Identity() for _ in range(3)]
    block = HybridBlock(local, MultiHeadAttention(DIM, HEADS), FeedForward(DIM), *norms).double()
    x, features = randn(11, DIM), randn(37, FEATURES)
    out = block(x, gf.complete(11), local_edge_index=EDGES, local_edge_attr=features)
    h = x + local(x, EDGES, edge_attr=features) + x + block.attention(x, gf.complete(11))
    torch.testing.assert_close(out, h + block.mlp(h))


def test_ego_separation_and_residual_block_are_their_formulas():
    adjacency = gf.from_edge_index(EDGES, 11)
    heads = MultiHeadAttention(DIM, HEADS)
    separated = EgoSeparation(heads, DIM).double()
    x = randn(11, DIM)
    weight, bias = separated.out.weight, separated.out.bias
    expected = x @ weight[:, :DIM].T + heads(x, adjacency) @ weight[:, DIM:].T + bias
    torch.testing.assert_close(separated(x, adjacency), expected)
    block = ResidualBlock(separated, FeedForward(DIM), nn.LayerNorm(DIM)).double()
    expected = x + block.mlp(separated(block.norm(x), adjacency))
    torch.testing.assert_close(block(x, adjacency), expected)


@pytest.mark.parametrize("jump", ["cat", "max"])
def test_jumps_are_pygs(jump):
    states = [randn(7, DIM, seed=i) for i in range(3)]
    torch.testing.assert_close(combine_layers(states, jump), JumpingKnowledge(jump)(states))
    assert combine_layers(states, "last") is states[-1]


def test_unknown_jumps_are_refused_before_anything_is_built():
    with pytest.raises(ValueError, match="jump: got 'sum', expected 'last', 'cat' or 'max'"):
        build_transformer(DIM, 2, HEADS, jump="sum")
    with pytest.raises(ValueError, match="depth: got 0, expected at least 1 for jump='cat'"):
        build_transformer(DIM, 0, HEADS, jump="cat")


def test_a_single_node_is_normalised_by_the_running_statistics():
    norm, plain = NodeNorm(DIM).double(), nn.BatchNorm1d(DIM).double()
    x = randn(11, DIM)
    torch.testing.assert_close(norm(x), plain(x))
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    alone, none = norm(x[:1]), norm(x[:0])
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())
    torch.testing.assert_close(alone, norm.eval()(x[:1]))
    assert none.shape == (0, DIM)


def test_jumping_knowledge_concatenates_the_outputs_of_each_depth():
    deep = JumpingTransformer(DIM, 3, HEADS, jump="cat").double()
    adjacency, x = gf.from_edge_index(EDGES, 11), randn(11, DIM)
    parts = []
    for depth in range(1, 4):
        shallow = gf.Transformer(DIM, depth, HEADS).double()
        shallow.load_state_dict(
            {k: v for k, v in deep.state_dict().items() if k in shallow.state_dict()}
        )
        parts.append(shallow(x, adjacency))
    torch.testing.assert_close(deep(x, adjacency), torch.cat(parts, dim=1))
    torch.testing.assert_close(deep(x, EDGES), torch.cat(parts, dim=1))


def jumping(jump, **arguments):
    torch.manual_seed(3)
    return JumpingTransformer(DIM, 3, HEADS, jump=jump, **arguments).double()


def test_nodes_of_all_ranks_are_normalised_together():
    norm, plain = NodeNorm(DIM).double(), NodeNorm(DIM).double()
    x, others = randn(7, DIM), randn(5, DIM, seed=1)
    seen = []

    def add_the_other_rank(total):
        seen.append(total)
        count_or_square = others.new_full((1,), 5) if len(seen) == 1 else others[:0, 0]
        rest = others if len(seen) == 1 else (others - torch.cat([x, others]).mean(0)).square()
        return total + torch.cat([rest.sum(0), count_or_square])

    norm.sum_over_ranks = add_the_other_rank
    torch.testing.assert_close(norm(x), plain(torch.cat([x, others]))[:7])
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(norm.state_dict()[name], value)


def test_one_node_of_all_ranks_is_normalised_by_the_running_statistics():
    norm = NodeNorm(DIM).double()
    norm(randn(11, DIM))
    norm.sum_over_ranks = lambda total: total
    x = randn(1, DIM, seed=1)
    alone = norm(x)
    torch.testing.assert_close(alone, norm.eval()(x))


@pytest.mark.parametrize("jump", ["cat", "max"])
def test_jumps_use_position_encodings_and_positions(jump):
    model = jumping(jump, position_encoding=Rotary(DIM // HEADS - 1))
    x, adjacency = torch.randn(11, DIM, dtype=torch.float64), gf.complete(11)
    for positions in (None, torch.randperm(11)):
        rotary = model.position_encoding(positions, adjacency)
        states, h = [], x
        for block in model.blocks:
            h = block(h, adjacency, **rotary)
            states.append(model.norm(h))
        out = model(x, adjacency, positions)
        torch.testing.assert_close(out, combine_layers(states, jump))
    assert not torch.allclose(model(x, adjacency), out)


def test_jumps_recompute_activations():
    stored, recomputed = jumping("cat"), jumping("cat", activation_checkpointing=True)
    recomputed.load_state_dict(stored.state_dict())
    x, adjacency = torch.randn(7, DIM, dtype=torch.float64), gf.window(7, 2)
    calls = []
    recomputed.blocks[1].register_forward_pre_hook(lambda *_: calls.append(1))
    for model in (stored, recomputed):
        model(x, adjacency).square().sum().backward()
    assert len(calls) == 2
    for a, b in zip(recomputed.parameters(), stored.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_jumps_take_one_adjacency_a_block_and_refuse_other_numbers():
    model, x = jumping("max"), torch.randn(7, DIM, dtype=torch.float64)
    several = [gf.window(7, 1), gf.complete(7), gf.causal(7)]
    assert not torch.allclose(model(x, several), model(x, several[::-1]))
    with pytest.raises(ValueError, match="adjacency: got 2 adjacencies"):
        model(x, several[:2])


def test_a_misspelt_argument_of_the_transformer_is_refused():
    with pytest.raises(TypeError, match="'droput'"):
        build_transformer(DIM, 2, HEADS, droput=0.1)


def test_hooks_of_edge_maps_are_called():
    attention, calls = EdgeFeatureAttention(DIM, HEADS, FEATURES), []
    adjacency = gf.from_edge_index(EDGES, 11)
    x, features = torch.randn(11, DIM), torch.randn(adjacency.num_edges, FEATURES)
    expected = attention(x, adjacency, edge_attr=features)
    for linear in (attention.edge_key, attention.edge_value):
        linear.register_forward_hook(lambda *_: calls.append(1))
    torch.testing.assert_close(attention(x, adjacency, edge_attr=features), expected)
    assert len(calls) == 2


def test_padded_batches_are_refused():
    with pytest.raises(ValueError, match=r"x: got shape \[2, 3, 14\], expected \[N, C\]"):
        EdgeFeatureAttention(DIM, HEADS, 2)(
            torch.zeros(2, 3, DIM), gf.complete(6), edge_attr=torch.zeros(36, 2)
        )
