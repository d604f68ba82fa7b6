"""Latent attention against its equations, and with its cache."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

import graphformer as gf
from graphformer.nn import KVCache, LatentAttention, Rotary, record_attention, rotate

DIM, HEADS, RANK, HEAD, TURNED = 13, 3, 7, 5, 2


def make(**options):
    torch.manual_seed(3)
    return LatentAttention(
        DIM, HEADS, rank=RANK, head_dim=HEAD, rotary_dim=TURNED, **options
    ).double()


@pytest.mark.parametrize("query_rank", [None, 11])
def test_output_is_that_of_the_equations(query_rank):
    attention, n = make(query_rank=query_rank), 7
    x, adjacency = torch.randn(n, DIM, dtype=torch.float64), gf.causal(n)
    rotary = Rotary(TURNED)(None, adjacency)["rotary"]
    out = attention(x, adjacency, rotary=rotary)
    q = x
    if query_rank is None:
        q = q @ attention.q.weight.T
    else:
        first, norm, second = attention.q
        q = F.rms_norm(q @ first.weight.T, (11,), norm.weight, 1e-6) @ second.weight.T
    q = q.view(n, HEADS, HEAD + TURNED)
    down = x @ attention.down.weight.T
    latent = F.rms_norm(down[:, :RANK], (RANK,), attention.norm.weight, 1e-6)
    k, v = (latent @ attention.up.weight.T).view(n, HEADS, 2 * HEAD).split(HEAD, -1)
    key = rotate(down[:, None, RANK:], rotary).expand(-1, HEADS, -1)
    query = rotate(q[..., HEAD:], rotary)
    logits = torch.einsum("ihd,jhd->hij", q[..., :HEAD], k)
    logits = (logits + torch.einsum("ihd,jhd->hij", query, key)) * (HEAD + TURNED) ** -0.5
    logits = logits.masked_fill(~torch.ones(n, n).tril().bool(), -torch.inf)
    expected = torch.einsum("hij,jhd->ihd", logits.softmax(-1), v).flatten(1)
    torch.testing.assert_close(out, expected @ attention.out.weight.T)


def test_the_cache_stores_compressed_vectors_and_gives_the_same_output():
    attention = make().eval()
    x = torch.randn(2, 11, DIM, dtype=torch.float64)
    rotary = Rotary(TURNED)
    whole = gf.causal([11, 11])
    expected = attention(x.flatten(0, 1), whole, **rotary(None, whole)).view(2, 11, DIM)
    cache = KVCache((7, 7))
    first = gf.causal([7, 7])
    out = attention(x[:, :7].flatten(0, 1), first, cache=cache, **rotary(None, first))
    torch.testing.assert_close(out.view(2, 7, DIM), expected[:, :7])
    for place in range(7, 11):
        turn = rotary(torch.tensor([place, place]), gf.complete([1, 1]))
        out = attention(x[:, place], gf.complete([1, 1]), cache=cache, **turn)
        torch.testing.assert_close(out, expected[:, place])
    assert cache.groups[0].keys.shape[1::2] == (1, RANK + TURNED)


def test_from_sources_to_targets():
    attention, x, source = make(), torch.randn(5, DIM).double(), torch.randn(11, DIM).double()
    out = attention(x, gf.complete(5, 11), source)
    alone = attention(x[3:4], gf.complete(1, 11), source)
    torch.testing.assert_close(out[3:4], alone)
    out, weights = attention(x, gf.complete(5, 11), source, return_weights=True)
    assert weights.shape == (55, HEADS)


def test_rotary_positions_of_a_source():
    attention, x, adjacency = make(), torch.randn(7, DIM, dtype=torch.float64), gf.complete(7)
    rotary = Rotary(TURNED)(torch.randperm(7), adjacency)["rotary"]
    expected = attention(x, adjacency, rotary=rotary)
    part = tuple(half[2:5] for half in rotary)
    out = attention(x[2:5], gf.complete(3, 7), x, rotary=part, source_rotary=rotary)
    torch.testing.assert_close(out, expected[2:5])
    with pytest.raises(ValueError, match="source_rotary: got None with rotary"):
        attention(x, adjacency, x, rotary=rotary)


def test_hooks_of_folded_maps_are_called():
    attention, calls = make().eval(), []
    x = torch.randn(7, DIM, dtype=torch.float64)
    expected = attention(x, gf.causal(7))
    attention.up.register_forward_hook(lambda *_: calls.append(1))
    torch.testing.assert_close(attention(x, gf.causal(7), cache=KVCache((7,))), expected)
    assert calls


def test_weights_are_recorded():
    attention, x = make(), torch.randn(7, DIM, dtype=torch.float64)
    with record_attention(attention) as recorded:
        attention(x, gf.causal(7))
    assert recorded[0].weights.shape == (28, HEADS)


def test_values_of_another_width_and_rotation_of_adjacent_pairs():
    torch.manual_seed(3)
    sizes = {"rank": RANK, "head_dim": HEAD, "rotary_dim": 4, "value_dim": 11, "scale": 0.3}
    pairs = LatentAttention(DIM, HEADS, **sizes, adjacent_pairs=True).double()
    halves = LatentAttention(DIM, HEADS, **sizes).double()
    assert pairs.out.in_features == HEADS * 11
    halves.load_state_dict(pairs.state_dict())
    order = torch.tensor([0, 2, 1, 3])  # the rows of pairs as halves
    with torch.no_grad():
        q = halves.q.weight.view(HEADS, HEAD + 4, DIM)
        q[:, HEAD:] = q[:, HEAD:][:, order]
        halves.down.weight[RANK:] = halves.down.weight[RANK:][order]
    x, adjacency = torch.randn(7, DIM, dtype=torch.float64), gf.causal(7)
    turn = Rotary(4)(None, adjacency)
    torch.testing.assert_close(pairs(x, adjacency, **turn), halves(x, adjacency, **turn))
    cache = KVCache((7,))
    torch.testing.assert_close(
        pairs(x, adjacency, cache=cache, **turn), pairs(x, adjacency, **turn)
    )
