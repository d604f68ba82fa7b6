"""Keys and values that are kept, against attention to the whole text."""

from __future__ import annotations

import itertools

import pytest
import torch

import graphformer as gf
from graphformer.nn import KVCache
from graphformer.ops import OffsetBias

HEADS, GROUPS, WIDTH, VALUES = 6, 2, 5, 3


def randn(*shape):
    return torch.randn(shape, dtype=torch.float64)


def rows(texts, slices):
    """The nodes in a slice of each text, packed."""
    return torch.cat([text[part] for text, part in zip(texts, slices, strict=True)])


def start_cache(prompts, steps, radius, biased):
    """A cache that has the prompts; all texts' q, k, v, their bias and the expected output."""
    lengths = [length + steps for length in prompts]
    q = [randn(n, HEADS, WIDTH) for n in lengths]
    k = [randn(n, GROUPS, WIDTH) for n in lengths]
    v = [randn(n, GROUPS, VALUES) for n in lengths]
    bias = OffsetBias(randn(9, HEADS), slope=randn(HEADS).abs()) if biased else None

    def rule(sizes):
        return gf.causal(sizes) if radius is None else gf.window(sizes, radius, causal=True)

    whole = gf.attention(torch.cat(q), torch.cat(k), torch.cat(v), rule(lengths), bias=bias)
    whole = whole.split(lengths)
    cache = KVCache(prompts, window=None if radius is None else radius + 1)
    first = [slice(n) for n in prompts]
    out = cache.attend(*(rows(x, first) for x in (q, k, v)), rule(prompts), bias=bias)
    torch.testing.assert_close(out, rows(whole, first))
    return cache, (q, k, v), bias, whole


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("radius", [None, 3])
@pytest.mark.parametrize("prompts", [(5, 5, 5), (2, 7, 7, 3), (1,)])
def test_decoding_by_steps_is_attention_over_the_whole(prompts, radius, biased):
    steps = 150  # more than the buffers' first size
    cache, (q, k, v), bias, whole = start_cache(prompts, steps, radius, biased)
    for step in range(steps):
        now = [slice(n + step, n + step + 1) for n in prompts]
        out = cache.attend(*(rows(x, now) for x in (q, k, v)), gf.complete(len(now)), bias=bias)
        torch.testing.assert_close(out, rows(whole, now))
    capacity = max(run.keys.shape[2] for run in cache.groups)
    assert capacity == 64 if radius is not None else capacity >= max(prompts) + steps
    assert len(cache.groups) == {3: 1, 4: 3, 1: 1}[len(prompts)]


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("radius", [None, 3])
@pytest.mark.parametrize("prompts", [(5, 5), (2, 7, 7)])
def test_several_nodes_per_step_and_crop(prompts, radius, biased):
    steps = 131
    cache, (q, k, v), bias, whole = start_cache(prompts, steps, radius, biased)
    done = 0
    for new, wrong in itertools.cycle([(3, 2), (7, 0), (1, 0), (5, 5), (2, 1)]):
        if done + new > steps:
            break
        now = [slice(n + done, n + done + new) for n in prompts]
        other = [
            torch.cat([x[part][: new - wrong], randn(wrong, *x.shape[1:])])
            for x, part in zip(k, now, strict=True)
        ]  # those to be taken back are not right
        out = cache.attend(rows(q, now), torch.cat(other), rows(v, now), gf.complete(1), bias=bias)
        got = torch.cat([part[: new - wrong] for part in out.split(new)])
        right = [slice(part.start, part.stop - wrong) for part in now]
        torch.testing.assert_close(got, rows(whole, right))
        cache.crop(wrong)
        done += new - wrong
    assert done > 100


def test_growth_is_geometric():
    cache, copies = KVCache((3,)), 0
    cache.attend(*(randn(3, HEADS, WIDTH) for _ in range(3)), gf.causal(3))
    buffer = cache.groups[0].keys
    for _ in range(1000):
        cache.attend(*(randn(1, HEADS, WIDTH) for _ in range(3)), gf.complete(1))
        copies += cache.groups[0].keys is not buffer
        buffer = cache.groups[0].keys
    assert copies == 5  # 64, 128, 256, 512, 1024


def test_select_keeps_removes_and_repeats_samples():
    prompts = (5, 5, 2, 3)
    cache, other = KVCache(prompts), KVCache((5, 3, 3))
    k, v = randn(15, GROUPS, WIDTH), randn(15, GROUPS, VALUES)
    cache.attend(randn(15, HEADS, WIDTH), k, v, gf.causal(prompts))
    kept = torch.tensor([5, 6, 7, 8, 9, 12, 13, 14, 12, 13, 14])
    other.attend(randn(11, HEADS, WIDTH), k[kept], v[kept], gf.causal([5, 3, 3]))
    cache.select(torch.tensor([1, 3, 3]))
    new = randn(3, HEADS, WIDTH), randn(3, GROUPS, WIDTH), randn(3, GROUPS, VALUES)
    adjacency = gf.complete([1, 1, 1])
    torch.testing.assert_close(cache.attend(*new, adjacency), other.attend(*new, adjacency))


def test_constant_sources_are_stored_once():
    cache = KVCache((7, 3), constant=True)
    q, k, v = randn(4, HEADS, WIDTH), randn(10, GROUPS, WIDTH), randn(10, GROUPS, VALUES)
    adjacency = gf.complete([2, 2], [7, 3])
    assert not cache.is_frozen
    torch.testing.assert_close(cache.attend(q, k, v, adjacency), gf.attention(q, k, v, adjacency))
    assert cache.is_frozen
    q = randn(2, HEADS, WIDTH)
    out = cache.attend(q, None, None, gf.complete([1, 1], [7, 3]))
    torch.testing.assert_close(out, gf.attention(q, k, v, gf.complete([1, 1], [7, 3])))


@pytest.mark.parametrize(
    "options", [{"return_weights": True}, {"bias": torch.zeros(1)}, {"edge_weight": torch.ones(1)}]
)
def test_unsupported_options_are_refused(options):
    cache = KVCache((1,))
    new = [randn(1, HEADS, WIDTH) for _ in range(3)]
    cache.attend(*new, gf.complete(1))
    with pytest.raises(ValueError, match="cache: got"):
        cache.attend(*new, gf.complete(1), **options)
