"""The diffusion process: noisy latents by time, the predicted velocity, and steps of DDIM.

At time t from 0 (data) to 1 (noise), x_t = alpha_t x + sigma_t noise with alpha_t = cos(pi t / 2)
and sigma_t = sin(pi t / 2). The squares of both add up to 1, so that x_t has unit variance if x and
the noise have, and x_1 is pure noise, from which sampling starts. There a prediction of the noise
says nothing about x; the velocity v = alpha_t noise - sigma_t x determines both x and the noise at
all times.

Functions take latents [N, D], and times [N] or [] for all of them.

Source: Salimans and Ho, 2022, "Progressive distillation for fast sampling of diffusion models",
section 4 and appendix D (velocity, and this schedule: the cosine one of Nichol and Dhariwal, 2021,
without its offset).
"""

from __future__ import annotations

import math

from torch import Tensor


def signal_and_noise(times: Tensor) -> tuple[Tensor, Tensor]:
    """Return the factors alpha_t of the data and sigma_t of the noise, both of the times' shape."""
    angle = times * (math.pi / 2)
    return angle.cos(), angle.sin()


def add_noise(x: Tensor, noise: Tensor, times: Tensor) -> Tensor:
    """Return x_t = alpha_t x + sigma_t noise, [N, D]."""
    alpha, sigma = signal_and_noise(times.unsqueeze(-1))
    return alpha * x + sigma * noise


def velocity(x: Tensor, noise: Tensor, times: Tensor) -> Tensor:
    """Return v = alpha_t noise - sigma_t x, [N, D]."""
    alpha, sigma = signal_and_noise(times.unsqueeze(-1))
    return alpha * noise - sigma * x


def from_velocity(x_t: Tensor, v: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
    """Return the data x = alpha_t x_t - sigma_t v and the noise sigma_t x_t + alpha_t v, [N, D]."""
    alpha, sigma = signal_and_noise(times.unsqueeze(-1))
    return alpha * x_t - sigma * v, sigma * x_t + alpha * v


def ddim_step(x_t: Tensor, v: Tensor, times: Tensor, next_times: Tensor) -> Tensor:
    """Return x_s at earlier times s, with the data and the noise that v predicts at times t.

    Source: Song et al., 2021, "Denoising diffusion implicit models", equation 12 without random
    noise (sigma_t = 0 there).
    """
    x, noise = from_velocity(x_t, v, times)
    return add_noise(x, noise, next_times)


def guide(unconditional: Tensor, conditional: Tensor, guidance: float) -> Tensor:
    """Return unconditional + guidance (conditional - unconditional), [N, D].

    At a guidance of 1 it is the conditional prediction, at 0 the unconditional one. For a given
    x_t, guided velocities are those of guided noise, for one is linear in the other.

    Source: Ho and Salimans, 2022, "Classifier-free diffusion guidance", equation 6, where the
    weight w is guidance - 1.
    """
    return unconditional + guidance * (conditional - unconditional)
