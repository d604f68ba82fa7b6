"""Multi-head attention against torch's, with the same weights."""

from __future__ import annotations

import pytest
import torch
from helpers.attention_modules import assert_same_results, copy_weights, count_calls, randn
from torch import nn
from torch.nn.utils import prune

import graphformer as gf

DIM, HEADS = 14, 2


def both(bias=True):
    ours = gf.nn.MultiHeadAttention(DIM, HEADS, bias=bias).double()
    other = nn.MultiheadAttention(DIM, HEADS, bias=bias, batch_first=True).double()
    pairs = [(ours.qkv.weight, other.in_proj_weight), (ours.out.weight, other.out_proj.weight)]
    if bias:
        pairs += [(ours.qkv.bias, other.in_proj_bias), (ours.out.bias, other.out_proj.bias)]
    copy_weights(pairs)
    assert len(list(ours.parameters())) == len(pairs)
    return ours, other, pairs


@pytest.mark.parametrize("bias", [True, False])
def test_self_attention_is_torchs(bias):
    ours, other, pairs = both(bias)
    adjacency = gf.complete(11)
    assert_same_results(
        lambda x: ours(x, adjacency), lambda x: other(x, x, x)[0], pairs, [randn(11, DIM)]
    )


@pytest.mark.parametrize("bias", [True, False])
def test_cross_attention_is_torchs(bias):
    ours, other, pairs = both(bias)
    adjacency = gf.complete(5, 11)
    assert_same_results(
        lambda x, source: ours(x, adjacency, source),
        lambda x, source: other(x, source, source)[0],
        pairs,
        [randn(5, DIM), randn(11, DIM)],
    )


def test_a_mask_is_the_complement_of_torchs():
    ours, other, pairs = both()
    mask = randn(7, 7, seed=3) > 0
    mask.fill_diagonal_(True)
    adjacency = gf.from_mask(mask)
    assert_same_results(
        lambda x: ours(x, adjacency),
        lambda x: other(x, x, x, attn_mask=~mask)[0],
        pairs,
        [randn(7, DIM)],
    )


def test_a_ragged_batch_is_torchs_with_padding():
    ours, other, pairs = both()
    lengths = [3, 7, 5]
    padding = torch.arange(7) >= torch.tensor(lengths).unsqueeze(1)

    def padded(x):
        dense = x.new_zeros(3, 7, DIM).masked_scatter(~padding.unsqueeze(-1), x)
        return other(dense, dense, dense, key_padding_mask=padding)[0][~padding]

    adjacency = gf.complete(lengths)
    assert_same_results(lambda x: ours(x, adjacency), padded, pairs, [randn(15, DIM)])


def test_returned_weights_are_torchs():
    ours, other, _ = both()
    x = randn(11, DIM)
    _, weights = ours(x, gf.complete(11), return_weights=True)
    _, expected = other(x, x, x, average_attn_weights=False)
    torch.testing.assert_close(weights, expected.permute(1, 2, 0).flatten(0, 1))


def test_grouped_heads_are_repeated_keys_and_values():
    grouped = gf.nn.MultiHeadAttention(12, 6, num_kv_heads=2).double()
    full = gf.nn.MultiHeadAttention(12, 6).double()
    with torch.no_grad():
        for name in ("weight", "bias"):
            q, k, v = getattr(grouped.qkv, name).split([12, 4, 4])
            k, v = (x.unflatten(0, (2, 2)).repeat_interleave(3, 0).flatten(0, 1) for x in (k, v))
            getattr(full.qkv, name).copy_(torch.cat([q, k, v]))
    full.out.load_state_dict(grouped.out.state_dict())
    x, source = randn(7, 12), randn(5, 12)
    for adjacency, *rest in ((gf.window(7, 2),), (gf.complete(7, 5), source)):
        out = grouped(x, adjacency, *rest)
        torch.testing.assert_close(out, full(x, adjacency, *rest))


def test_heads_of_any_width_with_normalised_queries_and_keys():
    attention = gf.nn.MultiHeadAttention(
        DIM, 3, num_kv_heads=1, head_dim=5, bias=True, out_bias=False, qk_norm=nn.RMSNorm, scale=0.7
    ).double()
    with torch.no_grad():
        attention.q_norm.weight.copy_(randn(5))
        attention.k_norm.weight.copy_(randn(5, seed=1))
    assert attention.out.bias is None
    assert attention.qkv.bias is not None
    x, adjacency = randn(7, DIM), gf.causal(7)
    q, k, v = attention.qkv(x).view(7, 5, 5).split([3, 1, 1], 1)
    q = q * q.square().mean(-1, keepdim=True).add(torch.finfo(q.dtype).eps).rsqrt()
    k = k * k.square().mean(-1, keepdim=True).add(torch.finfo(k.dtype).eps).rsqrt()
    q, k = q * attention.q_norm.weight, k * attention.k_norm.weight
    expected = gf.attention(q, k, v, adjacency, scale=0.7).flatten(1) @ attention.out.weight.T
    torch.testing.assert_close(attention(x, adjacency), expected)


def test_sources_of_another_width():
    ours = gf.nn.MultiHeadAttention(DIM, HEADS, num_kv_heads=1, source_dim=11).double()
    x, source, adjacency = randn(5, DIM), randn(7, 11), gf.complete(5, 7)
    q = ours.q(x).view(5, HEADS, 7)
    k, v = ours.kv(source).view(7, 2, 7).split(1, 1)
    expected = ours.out(gf.attention(q, k, v, adjacency).flatten(1))
    torch.testing.assert_close(ours(x, adjacency, source), expected)


def test_dropout_only_in_training():
    attention = gf.nn.MultiHeadAttention(DIM, HEADS, dropout=0.5).double()
    x, adjacency = randn(11, DIM), gf.window(11, 3)
    assert not torch.equal(attention(x, adjacency), attention(x, adjacency))
    attention.eval()
    assert torch.equal(attention(x, adjacency), attention(x, adjacency))


def test_state_dict_round_trip():
    first, second = gf.nn.MultiHeadAttention(DIM, HEADS), gf.nn.MultiHeadAttention(DIM, HEADS)
    second.load_state_dict(first.state_dict())
    x = torch.randn(7, DIM)
    assert torch.equal(first(x, gf.causal(7)), second(x, gf.causal(7)))


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"dim": 14, "num_heads": 3}, "num_heads"),
        ({"dim": 14, "num_heads": 0}, "num_heads"),
        ({"dim": 12, "num_heads": 6, "num_kv_heads": 4}, "num_kv_heads"),
        ({"dim": 12, "num_heads": 6, "num_kv_heads": 0}, "num_kv_heads"),
        ({"dim": 12, "num_heads": 0, "head_dim": 4}, "num_heads"),
    ],
)
def test_errors_name_the_argument(arguments, match):
    with pytest.raises(ValueError, match=match):
        gf.nn.MultiHeadAttention(**arguments)


def test_padded_batches_are_refused_with_a_shape():
    with pytest.raises(ValueError, match=r"x: got shape \[2, 3, 14\], expected \[N, C\]; pack"):
        gf.nn.MultiHeadAttention(DIM, HEADS)(torch.zeros(2, 3, DIM), gf.complete(3))


@pytest.mark.parametrize("source_dim", [None, 11])
def test_hooks_are_called_in_cross_attention(source_dim):
    attention = gf.nn.MultiHeadAttention(DIM, HEADS, source_dim=source_dim)
    x, source = torch.randn(5, DIM), torch.randn(7, source_dim or DIM)
    expected = attention(x, gf.complete(5, 7), source)
    calls = count_calls(attention)
    torch.testing.assert_close(attention(x, gf.complete(5, 7), source), expected)
    assert all(calls.values())


def test_pruned_weights_train_in_cross_attention():
    attention = gf.nn.MultiHeadAttention(DIM, HEADS)
    prune.l1_unstructured(attention.qkv, "weight", 0.5)
    before = attention.qkv.weight_orig.detach().clone()
    optimizer = torch.optim.SGD(attention.parameters(), 0.1)
    for _ in range(2):
        optimizer.zero_grad()
        attention(torch.randn(5, DIM), gf.complete(5, 7), torch.randn(7, DIM)).sum().backward()
        optimizer.step()
    kept = attention.qkv.weight_mask.bool()
    assert not torch.equal(attention.qkv.weight_orig[kept], before[kept])
    attention(torch.randn(5, DIM), gf.complete(5, 7), torch.randn(7, DIM))
    assert not attention.qkv.weight[~kept].any()


@pytest.mark.parametrize("qk_norm", [None, nn.RMSNorm])
def test_rotary_positions_in_cross_attention(qk_norm):
    attention = gf.nn.MultiHeadAttention(DIM, HEADS, qk_norm=qk_norm).double()
    x, adjacency = randn(7, DIM), gf.complete(7)
    positions = torch.randperm(7)
    rotary = gf.nn.Rotary(4)(positions, adjacency)["rotary"]
    expected = attention(x, adjacency, rotary=rotary)
    torch.testing.assert_close(
        attention(x, adjacency, x, rotary=rotary, source_rotary=rotary), expected
    )
    part = gf.nn.Rotary(4)(positions[2:5], gf.complete(3))["rotary"]
    out = attention(x[2:5], gf.complete(3, 7), x, rotary=part, source_rotary=rotary)
    torch.testing.assert_close(out, expected[2:5])


def test_only_one_rotation_is_refused():
    attention, x, adjacency = (
        gf.nn.MultiHeadAttention(DIM, HEADS),
        torch.randn(7, DIM),
        gf.causal(7),
    )
    rotary = gf.nn.Rotary(4)(None, adjacency)["rotary"]
    with pytest.raises(ValueError, match="source_rotary: got None with rotary"):
        attention(x, adjacency, x, rotary=rotary)
    with pytest.raises(ValueError, match="rotary: got None with source_rotary"):
        attention(x, adjacency, x, source_rotary=rotary)
    with pytest.raises(ValueError, match="source_rotary: got a rotation, expected None"):
        attention(x, adjacency, rotary=rotary, source_rotary=rotary)


def test_a_frozen_cache_has_rotated_keys():
    attention = gf.nn.MultiHeadAttention(DIM, HEADS).double().eval()
    x, source = randn(5, DIM), randn(7, DIM, seed=1)
    own = gf.nn.Rotary(4)(torch.arange(5), gf.complete(5))["rotary"]
    across = gf.nn.Rotary(4)(torch.arange(7), gf.complete(7))["rotary"]
    expected = attention(x, gf.complete(5, 7), source, rotary=own, source_rotary=across)
    cache = gf.nn.KVCache((7,), constant=True)
    for i in range(5):
        turn = tuple(part[i : i + 1] for part in own)
        out = attention(
            x[i : i + 1],
            gf.complete(1, 7),
            source,
            rotary=turn,
            source_rotary=across,
            cache=cache,
        )
        torch.testing.assert_close(out, expected[i : i + 1])


def test_padded_sources_are_refused():
    with pytest.raises(ValueError, match=r"source: got shape \[2, 3, 14\], expected \[N, C\]"):
        gf.nn.MultiHeadAttention(DIM, HEADS)(
            torch.zeros(6, DIM), gf.complete(6), torch.zeros(2, 3, DIM)
        )
