from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from graphformer.ops import dropout
from graphformer.ops.common import dropout_mask
from graphformer.ops.dropout import MIN_ELEMENTS, drop

SHAPE = (173, 211)  # more than MIN_ELEMENTS, and no multiple of anything


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_drops_by_the_mask_of_the_attention(dtype):
    x = torch.randn(SHAPE, dtype=dtype)
    seed = torch.tensor(2**62 + 12345)
    mask = dropout_mask(x.numel(), 1, 0.3, seed).view(SHAPE)
    wide = x.double() / (1 - 0.3)
    expected = torch.where(mask, wide, 0.0).to(dtype)
    result = drop(x, seed, 0.3)
    assert result.dtype == dtype
    torch.testing.assert_close(result, expected)
    assert torch.equal(result == 0, ~mask)


def test_keeps_the_mean_and_the_rate():
    torch.manual_seed(3)
    y = dropout(torch.ones(1009, 499), 0.6)
    kept = (y != 0).float().mean().item()
    assert abs(kept - 0.4) < 5 * (0.24 / y.numel()) ** 0.5  # five standard deviations
    assert torch.equal(y[y != 0].unique(), torch.tensor([2.5]))


def test_the_gradient_passes_where_the_number_did():
    x = torch.randn(SHAPE, requires_grad=True)
    y = dropout(x, 0.5)
    y.backward(torch.full(SHAPE, 3.0))
    torch.testing.assert_close(x.grad, torch.where(y != 0, 6.0, 0.0))


def test_second_derivatives():
    seed = torch.tensor(5)
    x = torch.randn(3, 7, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(lambda y: drop(y, seed, 0.4), x)
    torch.autograd.gradgradcheck(lambda y: drop(y, seed, 0.4).square(), x)


def test_reproducible_by_seed_and_on_any_number_of_threads():
    x = torch.randn(SHAPE)
    results = []
    threads = torch.get_num_threads()
    try:
        for number in (1, 2, 2):
            torch.set_num_threads(number)
            torch.manual_seed(17)
            results.append(dropout(x))
        other = dropout(x)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[1], results[2])
    assert not torch.equal(other, results[0])


def test_not_contiguous():
    x = torch.randn(SHAPE).T
    y = dropout(x, 0.25)
    kept = y != 0
    torch.testing.assert_close(y[kept], (x / 0.75)[kept])


@pytest.mark.parametrize("shape", [(0, 5), (3, 7), SHAPE])
def test_nothing_to_do(shape):
    x = torch.randn(shape)
    assert torch.equal(dropout(x, 0.5, training=False), x)
    assert torch.equal(dropout(x, 0.0), x)
    assert not dropout(x, 1.0).any()
    assert dropout(x, 0.5).shape == shape


@pytest.mark.parametrize("p", [-0.1, 1.5])
@pytest.mark.parametrize("size", [3, MIN_ELEMENTS])
def test_bad_probability(p, size):
    with pytest.raises(ValueError, match="between 0 and 1"):
        dropout(torch.ones(size), p)


def test_is_an_ordinary_operator():
    x = torch.randn(13, 7, requires_grad=True)
    torch.library.opcheck(drop, (x, torch.tensor(3), 0.5))


def test_compiles_in_one_piece():
    torch.manual_seed(1)
    x = torch.randn(SHAPE, requires_grad=True)
    y = torch.compile(dropout, fullgraph=True, backend="aot_eager")(x, 0.5)
    kept = y != 0
    torch.testing.assert_close(y[kept], 2 * x[kept])
    y.sum().backward()
    assert torch.equal(x.grad != 0, kept)


def test_small_tensors_are_torchs():
    x = torch.randn(MIN_ELEMENTS - 1)
    torch.manual_seed(5)
    ours = dropout(x)
    torch.manual_seed(5)
    assert torch.equal(ours, F.dropout(x))
