"""Log-mel spectrograms against the definition, and the mel scale by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from graphformer.data.audio.spectrogram import FLOOR, from_mel, log_mel, mel_filters, to_mel


def test_the_mel_scale_by_hand() -> None:
    found = to_mel(torch.tensor([0.0, 700.0, 6300.0], dtype=torch.float64))
    expected = [0.0, 2595 * math.log10(2), 2595.0]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))
    torch.testing.assert_close(from_mel(found)[1:], torch.tensor([700.0, 6300.0]).double())


def test_filters_are_triangles_that_overlap_by_half() -> None:
    filters = mel_filters(8000, 512, 11)
    assert filters.shape == (257, 11)
    assert filters.min() == 0
    assert filters.max() <= 1
    peaks = filters.argmax(0)
    assert (peaks.diff() > 0).all()
    # Between the first and the last peak the filters sum to one.
    torch.testing.assert_close(
        filters[peaks[0] + 1 : peaks[-1]].sum(1), torch.ones(int(peaks[-1] - peaks[0]) - 1)
    )
    with pytest.raises(ValueError, match=r"num_mels: got 64 .* no frequency; lower num_mels"):
        mel_filters(8000, 64, 64)


def test_a_spectrogram_is_its_definition() -> None:
    rate, window, hop, num_mels = 1000, 20, 7, 3
    signal = torch.randn(2, 53)
    found = log_mel(signal, rate=rate, window=window, hop=hop, num_mels=num_mels)
    assert found.shape == (2, 53 // 7 + 1, 3)
    weights = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    padded = np.pad(signal[1].double().numpy(), window // 2)
    for frame in range(53 // 7 + 1):
        part = padded[frame * hop : frame * hop + window] * weights
        power = np.abs(np.fft.rfft(part)) ** 2 / window
        expected = np.log(power @ mel_filters(rate, window, num_mels).double().numpy() + FLOOR)
        np.testing.assert_allclose(found[1, frame], expected, rtol=1e-4, atol=1e-4)


def test_a_tone_is_brightest_at_its_frequency_and_silence_is_finite() -> None:
    time = torch.arange(4000) / 8000
    options = {"rate": 8000, "window": 256, "hop": 128, "num_mels": 17}
    for frequency in (500.0, 1500.0, 3000.0):
        found = log_mel(torch.sin(2 * math.pi * frequency * time), **options)
        brightest = mel_filters(8000, 256, 17)[round(frequency * 256 / 8000)].argmax()
        assert (found[2:-2].argmax(1) == brightest).all()
    assert torch.equal(log_mel(torch.zeros(500), **options), torch.full((4, 17), math.log(FLOOR)))
