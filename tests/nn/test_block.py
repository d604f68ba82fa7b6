"""Blocks against torch's transformer layers, with the same weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import graphformer as gf
from graphformer.nn import Block, DecoderBlock, FeedForward, MultiHeadAttention

DIM, HEADS, HIDDEN = 10, 5, 13


def randn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def attention_pairs(ours, other):
    return [
        (ours.qkv.weight, other.in_proj_weight),
        (ours.qkv.bias, other.in_proj_bias),
        (ours.out.weight, other.out_proj.weight),
        (ours.out.bias, other.out_proj.bias),
    ]


def layer_pairs(modules):
    return [(getattr(a, n), getattr(b, n)) for a, b in modules for n in ("weight", "bias")]


def assert_same(ours, other, pairs, inputs, run, run_other):
    assert len(list(ours.parameters())) == len(list(other.parameters())) == len(pairs)
    with torch.no_grad():
        for number, (a, b) in enumerate(pairs):
            b.copy_(randn(*b.shape, seed=number) / 2)
            a.copy_(b)
    leaves, others = ([x.clone().requires_grad_() for x in inputs] for _ in range(2))
    out, expected = run(*leaves), run_other(*others)
    torch.testing.assert_close(out, expected)
    cotangent = randn(*out.shape, seed=77)
    got = torch.autograd.grad((out * cotangent).sum(), [*leaves, *(a for a, _ in pairs)])
    want = torch.autograd.grad((expected * cotangent).sum(), [*others, *(b for _, b in pairs)])
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("norm_first", [True, False], ids=["pre-norm", "post-norm"])
@pytest.mark.parametrize("masked", [False, True])
def test_block_is_torchs_encoder_layer(norm_first, masked):
    ours = Block(
        MultiHeadAttention(DIM, HEADS),
        FeedForward(DIM, HIDDEN),
        nn.LayerNorm(DIM),
        nn.LayerNorm(DIM),
        norm_first=norm_first,
    ).double()
    other = nn.TransformerEncoderLayer(
        DIM, HEADS, HIDDEN, 0.0, "gelu", norm_first=norm_first, batch_first=True
    ).double()
    pairs = attention_pairs(ours.attention, other.self_attn) + layer_pairs(
        [
            (ours.mlp[0], other.linear1),
            (ours.mlp[3], other.linear2),
            (ours.norm1, other.norm1),
            (ours.norm2, other.norm2),
        ]
    )
    mask = nn.Transformer.generate_square_subsequent_mask(7, dtype=torch.float64)
    adjacency = gf.causal(7) if masked else gf.complete(7)
    assert_same(
        ours,
        other,
        pairs,
        [randn(7, DIM)],
        lambda x: ours(x, adjacency),
        lambda x: other(x.unsqueeze(0), mask if masked else None).squeeze(0),
    )


@pytest.mark.parametrize("norm_first", [True, False], ids=["pre-norm", "post-norm"])
def test_decoder_block_is_torchs_decoder_layer(norm_first):
    ours = DecoderBlock(
        MultiHeadAttention(DIM, HEADS),
        MultiHeadAttention(DIM, HEADS),
        FeedForward(DIM, HIDDEN, activation=nn.ReLU),
        *(nn.LayerNorm(DIM) for _ in range(3)),
        norm_first=norm_first,
    ).double()
    other = nn.TransformerDecoderLayer(
        DIM, HEADS, HIDDEN, 0.0, "relu", norm_first=norm_first, batch_first=True
    ).double()
    pairs = [
        *attention_pairs(ours.attention, other.self_attn),
        *attention_pairs(ours.cross_attention, other.multihead_attn),
        *layer_pairs(
            [
                (ours.mlp[0], other.linear1),
                (ours.mlp[3], other.linear2),
                (ours.norm1, other.norm1),
                (ours.norm2, other.norm2),
                (ours.norm3, other.norm3),
            ]
        ),
    ]
    mask = nn.Transformer.generate_square_subsequent_mask(7, dtype=torch.float64)
    assert_same(
        ours,
        other,
        pairs,
        [randn(7, DIM), randn(11, DIM)],
        lambda x, source: ours(x, gf.causal(7), source, gf.complete(7, 11)),
        lambda x, source: other(x.unsqueeze(0), source.unsqueeze(0), mask).squeeze(0),
    )


def test_dropout_only_in_training():
    block = Block(
        MultiHeadAttention(DIM, HEADS),
        FeedForward(DIM),
        nn.Identity(),
        nn.Identity(),
        dropout=0.5,
    ).double()
    x, adjacency = randn(7, DIM), gf.complete(7)
    assert not torch.equal(block(x, adjacency), block(x, adjacency))
    block.eval()
    assert torch.equal(block(x, adjacency), block(x, adjacency))


def test_a_gate_scales_what_cross_attention_adds():
    torch.manual_seed(0)
    across = MultiHeadAttention(DIM, HEADS)
    parts = MultiHeadAttention(DIM, HEADS), across, FeedForward(DIM, HIDDEN)
    block = DecoderBlock(*parts, *(nn.LayerNorm(DIM) for _ in range(3)), gated=True).double()
    x, source = randn(7, DIM), randn(3, DIM)
    own, other = gf.causal(7), gf.complete(7, 3)
    h = x + block.attention(block.norm1(x), own)
    for gate in (0.0, -0.7):
        nn.init.constant_(block.gate, gate)
        y = h + torch.tensor(gate).double().tanh() * across(block.norm2(h), other, source)
        expected = y + block.mlp(block.norm3(y))
        torch.testing.assert_close(block(x, own, source, other), expected)
