"""The diffusion process against formulas by hand, and sampling with an oracle."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from graphformer.models.multimodal.diffusion_process import (
    add_noise,
    ddim_step,
    from_velocity,
    guide,
    signal_and_noise,
    velocity,
)

TIMES = torch.tensor([0.0, 0.25, 0.5, 2 / 3, 1.0], dtype=torch.float64)


def latents() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(2, len(TIMES), 3, generator=generator, dtype=torch.float64)
    return drawn[0], drawn[1]


def test_factors_by_hand() -> None:
    alpha, sigma = signal_and_noise(TIMES)
    half, root = math.sqrt(0.5), math.sqrt(3)
    eighth = math.sqrt((1 + half) / 2), math.sqrt((1 - half) / 2)  # cosine and sine of pi / 8
    expected = torch.tensor([[1, eighth[0], half, 1 / 2, 0], [0, eighth[1], half, root / 2, 1]])
    torch.testing.assert_close(torch.stack([alpha, sigma]), expected.double(), atol=1e-7, rtol=0)


def test_no_noise_at_the_start_and_nothing_else_at_the_end() -> None:
    x, noise = latents()
    torch.testing.assert_close(add_noise(x, noise, torch.tensor(0.0)), x, atol=0, rtol=0)
    torch.testing.assert_close(add_noise(x, noise, torch.tensor(1.0)), noise, atol=1e-6, rtol=0)


def test_noisy_latents_keep_the_variance() -> None:
    """For all x and noise of a finite set, whose means are 0 and variances 1."""
    values = torch.tensor([-math.sqrt(1.5), 0, math.sqrt(1.5)], dtype=torch.float64)
    x, noise = torch.cartesian_prod(values, values).unsqueeze(-1).unbind(1)
    for time in TIMES:
        noisy = add_noise(x, noise, time)
        assert float(noisy.mean()) == pytest.approx(0, abs=1e-12)
        assert float(noisy.square().mean()) == pytest.approx(1)


def test_velocity_determines_data_and_noise() -> None:
    x, noise = latents()
    noisy, v = add_noise(x, noise, TIMES), velocity(x, noise, TIMES)
    half = math.sqrt(0.5)
    torch.testing.assert_close(v[2], half * (noise[2] - x[2]))
    torch.testing.assert_close(v[0], noise[0])
    torch.testing.assert_close(v[4], -x[4])
    found, found_noise = from_velocity(noisy, v, TIMES)
    torch.testing.assert_close(found, x)
    torch.testing.assert_close(found_noise, noise)


def test_a_step_follows_the_predicted_data_and_noise() -> None:
    x, noise = latents()
    noisy, v = add_noise(x, noise, TIMES[3:4]), velocity(x, noise, TIMES[3:4])
    step = ddim_step(noisy, v, TIMES[3:4], TIMES[2:3])
    torch.testing.assert_close(step, math.sqrt(0.5) * (x + noise))
    # Song et al., equation 12, with their alpha being alpha_t^2 here.
    a, b = 0.5**2, 0.5
    predicted = (noisy - math.sqrt(1 - a) * noise) / math.sqrt(a)
    torch.testing.assert_close(step, math.sqrt(b) * predicted + math.sqrt(1 - b) * noise)


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_sampling_with_an_oracle_finds_the_data(steps: int) -> None:
    """An oracle that knows x predicts the velocity from x_t alone."""
    x, noisy = latents()
    times = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    for now, after in pairwise(times):
        alpha, sigma = signal_and_noise(now)
        v = velocity(x, (noisy - alpha * x) / sigma, now)
        noisy = ddim_step(noisy, v, now, after)
    torch.testing.assert_close(noisy, x)


def test_guidance_is_linear_between_and_beyond_both_predictions() -> None:
    unconditional, conditional = latents()
    torch.testing.assert_close(guide(unconditional, conditional, 1), conditional)
    assert torch.equal(guide(unconditional, conditional, 0), unconditional)
    expected = 3 * conditional - 2 * unconditional  # (1 + w) conditional - w unconditional, w = 2
    torch.testing.assert_close(guide(unconditional, conditional, 3), expected)
