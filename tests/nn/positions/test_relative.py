"""ALiBi and T5's bias against their definitions."""

from __future__ import annotations

import math

import pytest
import torch

import graphformer as gf
from graphformer.nn import ALiBi, RelativeBias


def dense(module, count, positions=None):
    """The biases of all pairs, [H, count, count]."""
    adjacency = gf.complete(count)
    rule = module(positions, adjacency)["bias"]
    return rule.on_edges(adjacency).T.unflatten(1, (count, count))


@pytest.mark.parametrize(
    ("heads", "slopes"),
    [
        (8, [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256]),  # the paper's
        (3, [2**-4, 2**-8, 2**-2]),
        (1, [2**-8]),
    ],
)
def test_alibi_falls_with_distance(heads, slopes):
    pos = torch.arange(13.0)
    distance = (pos - pos.unsqueeze(1)).abs()
    expected = -torch.tensor(slopes)[:, None, None] * distance
    torch.testing.assert_close(dense(ALiBi(heads), 13), expected)


def t5_bucket(offset, bidirectional, num_buckets, max_distance):
    """The paper's footnote in words: half exact, then in steps of the logarithm."""
    bucket = 0
    if bidirectional:
        num_buckets //= 2
        if offset > 0:
            bucket = num_buckets
        distance = abs(offset)
    else:
        distance = max(-offset, 0)
    exact = num_buckets // 2
    if distance < exact:
        return bucket + distance
    steps = math.log(distance / exact) / math.log(max_distance / exact) * (num_buckets - exact)
    return bucket + min(exact + int(steps + 1e-9), num_buckets - 1)


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("num_buckets", "max_distance"), [(32, 128), (14, 37)])
def test_t5_buckets(bidirectional, num_buckets, max_distance):
    module = RelativeBias(
        3, num_buckets=num_buckets, max_distance=max_distance, bidirectional=bidirectional
    )
    offsets = torch.arange(-211, 212)
    expected = [t5_bucket(d, bidirectional, num_buckets, max_distance) for d in offsets.tolist()]
    assert module.bucket(offsets).tolist() == expected
    assert {0, num_buckets - 1} <= set(expected)


def test_t5_bias_is_looked_up_for_each_pair_and_learned():
    module = RelativeBias(3, num_buckets=14, max_distance=37).double()  # sums of many terms
    weight = module.buckets.weight
    expected = weight[[[t5_bucket(j - i, True, 14, 37) for j in range(53)] for i in range(53)]]
    got = dense(module, 53)
    torch.testing.assert_close(got, expected.permute(2, 0, 1))
    cotangent = torch.randn(got.shape, dtype=got.dtype)
    (ours,) = torch.autograd.grad((got * cotangent).sum(), weight)
    (other,) = torch.autograd.grad((expected.permute(2, 0, 1) * cotangent).sum(), weight)
    torch.testing.assert_close(ours, other)


@pytest.mark.parametrize("module", [ALiBi(3), RelativeBias(3)], ids=["alibi", "t5"])
def test_positions_are_relative_within_a_sample(module):
    """Packed samples are as each alone; given positions are used."""
    adjacency = gf.causal([5, 3])
    pos = torch.tensor([0, 1, 2, 3, 4, 0, 1, 2])
    rule = module(pos, adjacency)["bias"]
    assert rule.positions is None  # one table for all samples
    alone = torch.cat([module(None, gf.causal(n))["bias"].on_edges(gf.causal(n)) for n in (5, 3)])
    torch.testing.assert_close(rule.on_edges(adjacency), alone)
    odd = torch.tensor([0, 7, 2, 30, 4, 0, 11, 2])
    rule = module(odd, adjacency)["bias"]
    source, target = adjacency.edge_index
    torch.testing.assert_close(rule.on_edges(adjacency), rule.at(odd[source] - odd[target]))
    assert not torch.equal(rule.on_edges(adjacency), alone)


@pytest.mark.parametrize("settings", [{"num_buckets": 3}, {"max_distance": 8}])
def test_errors_name_the_argument(settings):
    with pytest.raises(ValueError, match="num_buckets, max_distance: got"):
        RelativeBias(3, **settings)
