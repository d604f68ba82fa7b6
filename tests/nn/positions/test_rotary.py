"""Rotary positions against complex numbers, and their one property."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import graphformer as gf
from graphformer.nn import MultiHeadAttention, Rotary, rotate


def rotation(rotary, positions):
    return rotary(torch.as_tensor(positions), gf.complete(len(positions)))["rotary"]


def by_hand(x, positions, width, base):
    """Dimensions i and i + width / 2 as one complex number, turned by its angle."""
    out = x.clone()
    half = width // 2
    for n, place in enumerate(positions):
        for i in range(half):
            angle = place / base ** (2 * i / width)
            turned = torch.complex(x[n, :, i], x[n, :, i + half]) * complex(
                math.cos(angle), math.sin(angle)
            )
            out[n, :, i], out[n, :, i + half] = turned.real, turned.imag
    return out


@pytest.mark.parametrize(("width", "base"), [(10, 10_000.0), (6, 500.0)])
def test_pairs_are_rotated(width, base):
    x, positions = torch.randn(5, 3, 10, dtype=torch.float64), [0, 1, 7, 2, 101]
    out = rotate(x, rotation(Rotary(width, base=base), positions))
    torch.testing.assert_close(out, by_hand(x, positions, width, base), rtol=1e-5, atol=2e-5)
    assert torch.equal(out[..., width:], x[..., width:])


@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(-500, 500))
def test_products_depend_on_the_offset_only(first, second, shift):
    q, k = torch.randn(2, 1, 1, 14, generator=torch.Generator().manual_seed(3)).unbind(0)
    rotary = Rotary(14)

    def product(i, j):
        return (rotate(q, rotation(rotary, [i])) * rotate(k, rotation(rotary, [j]))).sum()

    torch.testing.assert_close(
        product(first, second), product(first + shift, second + shift), rtol=0, atol=5e-4
    )


def test_two_axes_are_two_rotaries_side_by_side():
    pos = torch.tensor([[0, 3], [2, 5], [7, 1]])
    adjacency = gf.complete(3)
    cos, sin = Rotary(12, axes=2)(pos, adjacency)["rotary"]
    for axis in (0, 1):
        part = rotation(Rotary(6), pos[:, axis].tolist())
        for got, want in ((cos, part[0]), (sin, part[1])):
            torch.testing.assert_close(got[..., 3 * axis : 3 * axis + 3], want[..., :3])
            torch.testing.assert_close(got[..., 6 + 3 * axis : 9 + 3 * axis], want[..., 3:])


def test_llama_3_stretches_long_wavelengths():
    """As the model's report and its code have it: kept, blended, divided, by the wavelength."""
    scaling = {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    plain = Rotary(128, base=500_000.0).frequencies()
    expected = []
    for frequency in plain.tolist():
        wavelength = 2 * math.pi / frequency
        if wavelength < 8192 / 4:
            expected.append(frequency)
        elif wavelength > 8192:
            expected.append(frequency / 8)
        else:
            smooth = (8192 / wavelength - 1) / (4 - 1)
            expected.append((1 - smooth) * frequency / 8 + smooth * frequency)
    got = Rotary(128, base=500_000.0, scaling=scaling).frequencies()
    torch.testing.assert_close(got, torch.tensor(expected))
    assert 0 < sum(a == b for a, b in zip(got.tolist(), plain.tolist(), strict=True)) < 64
    torch.testing.assert_close(
        Rotary(10, scaling={"factor": 4.0}).frequencies(), Rotary(10).frequencies() / 4
    )


def test_default_positions_are_indices_in_the_sample():
    rotary, lengths = Rotary(6), [3, 5]
    given_, default = (
        rotary(positions, gf.complete(lengths))["rotary"]
        for positions in (torch.tensor([0, 1, 2, 0, 1, 2, 3, 4]), None)
    )
    assert all(map(torch.equal, given_, default))


def test_attention_rotates_queries_and_keys():
    attention = MultiHeadAttention(12, 6, num_kv_heads=2, head_dim=6).double()
    x, adjacency = torch.randn(7, 12, dtype=torch.float64), gf.causal(7)
    rotation_ = rotation(Rotary(4), list(range(7)))
    q, k, v = attention.qkv(x).view(7, -1, 6).split([6, 2, 2], 1)
    out = gf.attention(rotate(q, rotation_), rotate(k, rotation_), v, adjacency)
    torch.testing.assert_close(
        attention(x, adjacency, rotary=rotation_), attention.out(out.flatten(1))
    )


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: Rotary(5), "width: got 5, expected a multiple of 2"),
        (lambda: Rotary(6, axes=2), "width: got 6, expected a multiple of 4"),
        (lambda: rotation(Rotary(4), [[0, 1]]), "expected 1 axes"),
        (
            lambda: rotate(torch.zeros(3, 2, 4), rotation(Rotary(6), [0, 1, 2])),
            "rotary: got a width",
        ),
    ],
)
def test_errors_name_the_argument(call, match):
    with pytest.raises(ValueError, match=match):
        call()


def test_no_nodes():
    for axes, positions in ((1, torch.empty(0)), (2, torch.empty(0, 2)), (1, None)):
        cos, sin = Rotary(4, axes=axes)(positions, gf.complete([]))["rotary"]
        assert cos.shape == sin.shape == (0, 1, 4)
        assert rotate(torch.empty(0, 3, 5), (cos, sin)).shape == (0, 3, 5)


def test_yarn_keeps_short_wavelengths_and_lengthens_long_ones():
    plain = Rotary(64).frequencies()
    context = {"factor": 4.0, "original_max_position_embeddings": 1024}
    rotary = Rotary(64, scaling={**context, "beta_fast": 32, "beta_slow": 1}, magnitude=1.5)
    ratio = plain / rotary.frequencies()
    turns = 1024 * plain / (2 * torch.pi)
    assert torch.equal(ratio[turns > 64], torch.ones(int((turns > 64).sum())))
    torch.testing.assert_close(ratio[turns < 0.5], torch.full_like(ratio[turns < 0.5], 4.0))
    assert (ratio.diff() >= 0).all()
    cos, sin = rotary(torch.tensor([3]), gf.complete([1]))["rotary"]
    torch.testing.assert_close(cos**2 + sin**2, torch.full_like(cos, 2.25))
