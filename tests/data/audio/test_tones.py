"""Generated tones: their frequencies by class and time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from graphformer.data import Tones
from graphformer.data.audio.tones import HIGHEST, LOWEST, RATE, TONES, tone


def loudest(signal: np.ndarray) -> float:
    """The strongest frequency of a part, in Hz."""
    power = np.abs(np.fft.rfft(signal * np.hanning(len(signal)), 16 * len(signal)))
    return float(power.argmax() * RATE / (16 * len(signal)))


@pytest.mark.parametrize(
    ("kind", "order"),
    [
        ("rising", (0, 1, 2)),
        ("falling", (2, 1, 0)),
        ("step up", (0, None, 1)),
        ("step down", (1, None, 0)),
        ("steady", (0, 0, 0)),
        ("tremolo", (0, 0, 0)),
        ("arpeggio", (0, 1, 2)),
    ],
)
def test_frequencies_change_as_the_class_says(kind: str, order: tuple[int | None, ...]) -> None:
    for seed in range(5):
        signal = tone(kind, 7000, np.random.default_rng(seed))
        assert signal.dtype == np.float32
        assert np.abs(signal).max() <= 1
        parts = [loudest(signal[start : start + 1000]) for start in (200, 3000, 5800)]
        for i in range(3):
            for j in range(3):
                a, b = order[i], order[j]
                if a is None or b is None:
                    continue
                if a < b:
                    assert parts[i] * 1.05 < parts[j], (kind, parts)
                if a == b:
                    assert parts[i] == pytest.approx(parts[j], rel=0.02)
        assert LOWEST * 0.9 < min(parts)
        assert max(parts) < 2.6 * HIGHEST


def test_chords_have_three_frequencies_and_tremolos_vary_in_amplitude() -> None:
    chord = tone("chord", 8000, np.random.default_rng(0))
    power = np.abs(np.fft.rfft(chord * np.hanning(8000))) ** 2
    peaks = (power[1:-1] > power[:-2]) & (power[1:-1] > power[2:]) & (power[1:-1] > power.max() / 4)
    assert peaks.sum() == 3
    loudness = np.abs(tone("tremolo", 8000, np.random.default_rng(0))).reshape(80, 100).max(1)
    assert loudness.min() < 0.1
    assert loudness.max() > 0.9
    steady = np.abs(tone("steady", 8000, np.random.default_rng(0))).reshape(80, 100).max(1)
    assert steady.min() > 0.9


def test_sounds_depend_on_the_seed_and_their_index() -> None:
    sizes = {"val_size": 2, "test_size": 3}
    one, more = Tones(5, **sizes), Tones(7, **sizes)
    one.setup()
    more.setup()
    assert one.num_classes == len(TONES)
    assert one.channels == 1
    assert torch.equal(one.splits["train"][0], more.splits["train"][0][:5])
    assert one.splits["train"][1].tolist() == [one.sound("train", i)[1] for i in range(5)]
    assert not np.array_equal(one.sound("train", 0)[0], one.sound("test", 0)[0])
    assert not np.array_equal(one.sound("train", 0)[0], Tones(seed=1).sound("train", 0)[0])
