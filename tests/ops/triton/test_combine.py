"""The kernels that combine parts of rows, and the device functions; run as test_kernels.py is."""

# ruff: noqa: E402 - Triton is optional
from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from helpers.triton_cases import DEVICE, NATIVE, randn

triton = pytest.importorskip("triton", reason="needs triton, which is for Linux")

import triton.language as tl

from graphformer.ops.common import dropout_mask as expected_mask
from graphformer.ops.triton import tile_ops
from graphformer.ops.triton.combine import combine_softmax, combine_sums

pytestmark = NATIVE
STARTS = [0, 3, 3, 22]
"""Three hubs of 3, 0 and 19 parts."""


def test_sums_of_parts() -> None:
    starts, parts = torch.tensor(STARTS, device=DEVICE), randn(22, 11)
    out = torch.full((3, 11), torch.nan, device=DEVICE)
    combine_sums[(3, 2)](starts=starts, parts=parts, out=out, WIDTH=11, BLOCK=8, PARTS=4)
    expected = torch.stack([parts[a:b].sum(0) for a, b in pairwise(STARTS)])
    torch.testing.assert_close(out, expected)


def test_softmax_of_parts() -> None:
    heads, width = 2, 5
    starts = torch.tensor(STARTS, device=DEVICE)
    hubs = torch.tensor([4, 1, 6], device=DEVICE)
    largest, total = 30 * randn(22, heads, seed=1), randn(22, heads, seed=2).exp()
    acc = randn(22, heads, width, seed=3)
    out = torch.zeros(7, heads, width, device=DEVICE)
    lse = torch.zeros(7, heads, device=DEVICE)
    combine_softmax[(3, heads)](
        hubs=hubs, starts=starts, largest=largest, total=total, acc=acc, out=out, lse=lse,
        HEADS=heads, WIDTH=width, BLOCK=8, PARTS=4,
    )  # fmt: skip
    for hub, first, end in ((4, 0, 3), (6, 3, 22)):
        m = largest[first:end].amax(0)
        share = (largest[first:end] - m).exp()
        divisor = (share * total[first:end]).sum(0)
        expected = (share.unsqueeze(2) * acc[first:end]).sum(0) / divisor.unsqueeze(1)
        torch.testing.assert_close(out[hub], expected)
        torch.testing.assert_close(lse[hub], m + divisor.log())
    assert (out[1] == 0).all()  # a hub without parts is a row without edges
    assert (lse[1] == torch.inf).all()
    assert not out[[0, 2, 3, 5]].any()  # other rows are left alone


@triton.jit
def write_mask(seed, out, threshold, HEADS: tl.constexpr):
    slot = tl.arange(0, 16)[None, :] + tl.zeros([HEADS, 1], tl.int64)
    head = tl.arange(0, HEADS).to(tl.int64)
    kept = tile_ops.dropout_mask(seed, slot, head, threshold, HEADS)
    tl.store(out + slot * HEADS + head[:, None], kept.to(tl.int8))


@pytest.mark.parametrize("seed", [0, 8_191, 2**40 + 7])
def test_dropout_mask_is_that_of_all_backends(seed: int) -> None:
    heads, dropout = 4, 0.3
    out = torch.zeros(16, heads, dtype=torch.int8, device=DEVICE)
    number = torch.tensor(seed, device=DEVICE)
    write_mask[(1,)](number, out, round(dropout * 2**24), HEADS=heads)
    assert torch.equal(out.bool(), expected_mask(16, heads, dropout, number))


@triton.jit
def write_softmax(s, out, N: tl.constexpr, WIDTH: tl.constexpr):
    column = tl.arange(0, WIDTH)[None, :]
    m = tl.full([1, WIDTH], float("-inf"), tl.float32)
    total = tl.zeros([1, WIDTH], tl.float32)
    for row in range(0, N):
        m, total, _, _ = tile_ops.online_softmax(m, total, tl.load(s + row * WIDTH + column))
    tl.store(out + column, tile_ops.finite_max(m) + tl.log(total))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, in the interpreter
def test_online_softmax_sums_exponentials() -> None:
    s = 50 * randn(13, 8)
    s[::3, 2] = -torch.inf
    s[:, 5] = -torch.inf
    out = torch.zeros(1, 8, device=DEVICE)
    write_softmax[(1,)](s, out, N=13, WIDTH=8)
    torch.testing.assert_close(out[0], s.logsumexp(0))
