"""The linear map of few rows against torch's."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from graphformer.models.generation.modes import fast_linear
from graphformer.ops.cpu.skinny_linear import is_supported, linear


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("rows", [0, 1, 2, 5, 8, 11, 16, 17])
@pytest.mark.parametrize(("out", "width"), [(2, 16), (3, 80), (5, 48), (67, 32), (131, 208)])
def test_it_is_torchs(out, width, rows, biased, threads):
    generator = torch.Generator().manual_seed(out + rows)
    x, weight, bias = (
        torch.randn(shape, generator=generator) for shape in ((rows, width), (out, width), (out,))
    )
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        got = linear(x, weight, bias if biased else None)
    finally:
        torch.set_num_threads(before)
    expected = F.linear(x, weight, bias if biased else None)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("rows", [1, 3, 17])
@pytest.mark.parametrize(("out", "width"), [(4, 16), (67, 48), (131, 208)])
def test_bfloat16_weights_are_converted_exactly(out, width, rows):
    generator = torch.Generator().manual_seed(out + rows)
    x, weight = (torch.randn(n, width, generator=generator) for n in (rows, out))
    half = weight.bfloat16()
    expected = F.linear(x, half.float())
    torch.testing.assert_close(linear(x, half, None), expected, rtol=1e-5, atol=2e-5)


def test_rows_that_lie_apart():
    x, weight = torch.randn(7, 96)[:, ::3], torch.randn(5, 32)
    torch.testing.assert_close(linear(x, weight, None), F.linear(x, weight), rtol=1e-5, atol=1e-5)
    both = linear(x[:1], weight, None), F.linear(x[:1], weight)
    torch.testing.assert_close(*both, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "weight",
    [
        torch.zeros(5, 17),
        torch.zeros(1, 16),
        torch.zeros(5, 16).double(),
        torch.zeros(16, 5).T,
        torch.zeros(5, 16, device="meta"),
    ],
    ids=["width", "height", "dtype", "strides", "device"],
)
def test_what_it_does_not_do(weight):
    assert not is_supported(weight)


def test_modules_are_afterwards_as_they_were():
    class Own(nn.Linear):
        pass

    network = nn.Sequential(nn.Linear(16, 32), nn.Linear(32, 5, bias=False), Own(5, 16))
    x = torch.randn(3, 16)
    expected = network(x)
    with torch.no_grad(), fast_linear(network):
        assert ["forward" in module.__dict__ for module in network] == [True, True, False]
        torch.testing.assert_close(network(x), expected, rtol=1e-5, atol=1e-5)
        with fast_linear(network):
            pass
        assert "forward" in network[0].__dict__
    assert not any("forward" in module.__dict__ for module in network)
    network(x).sum().backward()
