"""Log-mel spectrograms: the power of a signal by time and by frequency on the mel scale."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

FLOOR = 1e-6
"""Added to the power before the logarithm, so that silence is finite."""


def log_mel(signal: Tensor, *, rate: int, window: int, hop: int, num_mels: int) -> Tensor:
    """Return the log-mel spectrogram [..., frames, num_mels] of a signal [..., T].

    Frame t is centred at sample t * hop, windowed by a Hann window; the signal is padded by zeros,
    so that there are T // hop + 1 frames. Its power spectrum is summed by the filters of
    `mel_filters`, and the natural logarithm is taken of the sum and `FLOOR`.

    Args:
        signal: samples from -1 to 1.
        rate: samples per second.
        window: samples of a frame.
        hop: samples from one frame to the next.
        num_mels: number of filters.

    Source: Davis and Mermelstein, 1980, "Comparison of parametric representations for monosyllabic
    word recognition in continuously spoken sentences".
    """
    flat = signal.reshape(-1, signal.shape[-1])
    spectrum = torch.stft(
        flat,
        window,
        hop,
        window=torch.hann_window(window),
        center=True,
        pad_mode="constant",
        normalized=True,  # by sqrt(window)
        return_complex=True,
    )
    power = spectrum.abs().square().transpose(-1, -2)  # [., frames, window // 2 + 1]
    mels = power @ mel_filters(rate, window, num_mels)
    return (mels + FLOOR).log().reshape(*signal.shape[:-1], *mels.shape[-2:])


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def mel_filters(rate: int, window: int, num_mels: int) -> Tensor:
    """Return triangular filters [window // 2 + 1, num_mels] from frequencies to mels.

    mel(f) = 2595 log10(1 + f / 700 Hz). Filter i rises from 0 at the edge i to 1 at the edge i + 1
    and falls to 0 at the edge i + 2, where num_mels + 2 edges are at equal distances in mels from 0
    to half of the rate.

    Raises:
        ValueError: when a filter is so narrow that it has no frequency.

    Source: O'Shaughnessy, 1987, "Speech communication", for the formula.
    """
    frequencies = torch.arange(window // 2 + 1, dtype=torch.float64) * rate / window
    top = to_mel(torch.tensor(rate / 2, dtype=torch.float64))
    edges = from_mel(torch.linspace(0, 1, num_mels + 2, dtype=torch.float64) * top)
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    rising = (frequencies[:, None] - low) / (centre - low)
    falling = (high - frequencies[:, None]) / (high - centre)
    filters = torch.minimum(rising, falling).clamp(min=0)
    empty = (filters.sum(0) == 0).nonzero().flatten()
    if len(empty):
        raise ValueError(
            f"num_mels: got {num_mels} for windows of {window} samples, expected fewer: filter "
            f"{int(empty[0])} has no frequency; lower num_mels, or raise window"
        )
    return filters.float()


def to_mel(frequency: Tensor) -> Tensor:
    """Return frequencies in Hz as mels: 2595 log10(1 + f / 700)."""
    return 2595 * torch.log10(1 + frequency / 700)


def from_mel(mel: Tensor) -> Tensor:
    """Return mels as frequencies in Hz, the inverse of `to_mel`."""
    return 700 * (10 ** (mel / 2595) - 1)
