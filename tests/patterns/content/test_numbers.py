"""Patterns over content in half precision, and with numbers that are large or invalid."""

import pytest
import torch
from helpers.content import PATTERNS, adjacency_of, dense_attention, mask_by_hand, mask_of, qkv

import graphformer as gf
from graphformer.patterns import TopBlocks


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_half_precision_is_that_of_a_mask_made_by_hand(pattern, dtype, value_width):
    inputs = [x.requires_grad_() for x in qkv((17, 5), value_width=value_width, dtype=dtype)]
    q, k, _ = inputs
    out = gf.attention(*inputs, adjacency_of(pattern, (17, 5)))
    precise = [x.detach().double().requires_grad_() for x in inputs]
    mask = mask_of(adjacency_of(pattern, (17, 5)).select(q, k), 6)  # of the rounded numbers
    expected = dense_attention(*precise, mask, q.shape[2] ** -0.5)
    assert out.dtype == dtype
    error = 8 * torch.finfo(dtype).eps
    torch.testing.assert_close(out.double(), expected, rtol=error, atol=error)
    cotangent = torch.randn_like(out)
    found = torch.autograd.grad((out * cotangent).sum(), inputs)
    gradients = torch.autograd.grad((expected * cotangent.double()).sum(), precise)
    for x, y in zip(found, gradients, strict=True):
        torch.testing.assert_close(x.double(), y, rtol=4 * error, atol=4 * error)


@pytest.mark.parametrize("pattern", [TopBlocks(3, 2, causal=True), TopBlocks(3, 2)], ids=str)
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_own_block_is_chosen_beside_scores_that_are_no_numbers(pattern, value):
    q, k, _ = qkv((12,))
    k[:9] = value
    mask = mask_of(adjacency_of(pattern, (12,)).select(q, k), 6)
    assert mask.diagonal(dim1=1, dim2=2).all()


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("sample", [0, 1])
@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_invalid_numbers_stay_in_their_sample(pattern, sample, value, value_width):
    lengths, starts = (5, 7, 4), (0, 5, 12)
    own = slice(starts[sample], starts[sample + 1])
    adjacency = adjacency_of(pattern, lengths)
    results = []
    for place in (None, 0, 1, 2):
        inputs = qkv(lengths, value_width=value_width)
        if place is not None:
            inputs[place][own.start] = value
        inputs = [x.requires_grad_() for x in inputs]
        out = gf.attention(*inputs, adjacency)
        kept = torch.arange(16)[[not own.start <= i < own.stop for i in range(16)]]
        gradients = torch.autograd.grad(out[kept].square().sum(), inputs)
        results.append([out.detach()[kept], *(x[kept] for x in gradients)])
    for found in results[1:]:
        torch.testing.assert_close(found, results[0])


@pytest.mark.parametrize(("dtype", "autocast"), [(torch.float16, False), (torch.bfloat16, True)])
@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_large_numbers_of_half_precision(pattern, dtype, autocast):
    """Products of them are above the largest number of float16."""
    q, k, v = (x.to(dtype) for x in qkv((17, 4), width=64))
    q, k = 60 * q, 60 * k
    adjacency = adjacency_of(pattern, (17, 4))
    wide = q.double(), k.double(), v.double()
    with torch.autocast("cpu", dtype, enabled=autocast):
        mask = mask_of(adjacency.select(q, k), 6)
        out = gf.attention(q, k, v, adjacency)
    expected_mask = mask_by_hand(pattern, *wide[:2], (17, 4))
    assert torch.equal(mask, expected_mask)
    expected = dense_attention(*wide, expected_mask, 1 / 8)
    torch.testing.assert_close(out.double(), expected, atol=0.01, rtol=0.01)


@pytest.mark.parametrize("share_heads", [False, True])
@pytest.mark.parametrize("value", [torch.inf, 1e308])
def test_fixed_blocks_come_before_infinite_scores(value, share_heads):
    pattern = TopBlocks(2, 2, causal=True, share_heads=share_heads)
    q = torch.ones(9, 2, 3, dtype=torch.float64)
    k = torch.full((9, 1, 3), value, dtype=torch.float64)
    mask = pattern.mask(q, k)
    assert mask.diagonal(dim1=1, dim2=2).all()
    assert mask.sum(-1).max() == 4
