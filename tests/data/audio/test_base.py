"""Sounds packed as patches of time and frequency, from arrays and from files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from graphformer.data import Tones

SMALL = {"num_samples": 17, "val_size": 3, "test_size": 5, "batch_size": 7}


@pytest.fixture(scope="module")
def tones() -> Tones:
    data = Tones(**SMALL)
    data.setup()
    return data


def test_new_sounds_are_scaled_as_in_training(tones: Tones) -> None:
    expected = next(iter(tones.batches("test")))
    sounds = [tones.sound("test", i)[0] for i in range(5)]
    batch = tones.pack(sounds)
    assert torch.equal(batch.x, expected.x)
    assert batch.shapes == ((8, 4),) * 5
    restored = Tones()
    with pytest.raises(RuntimeError, match="call setup"):
        restored.pack(sounds)
    restored.load_state_dict(tones.state_dict())
    assert torch.equal(restored.pack(sounds).x, expected.x), "from a checkpoint, before setup"
    mixed = tones.pack([sounds[0], sounds[1][:3001]])
    assert mixed.shapes == ((8, 4), (3, 4)), "sounds of any duration, in whole patches"
    assert torch.equal(mixed.x[:32], batch.x[:32])


def test_a_patch_is_a_time_and_a_range_of_frequencies(tones: Tones) -> None:
    image = tones.splits["train"][0][0]
    assert image.shape == (1, 64, 32)
    batch = tones.samples("train")[torch.tensor([0])]
    scaled = (image - tones.mean[0]) / tones.std[0]
    place = batch.pos.tolist().index([2, 3])
    torch.testing.assert_close(batch.x[place], scaled[0, 16:24, 24:32].flatten().float())
    assert tones.pixels(batch.x).min() >= 0
    assert tones.pixels(torch.zeros(64)).tolist() == [0.5] * 64


def test_wrong_sounds_are_named(tones: Tones, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"audio: got 20 samples, expected at least 875"):
        tones.pack([np.zeros(20)])
    with pytest.raises(
        ValueError, match=r"audio: got an array \(2, 9000\), expected samples \[T\]"
    ):
        tones.pack([np.zeros((2, 9000))])
    with pytest.raises(ValueError, match="got no WAV file"):
        tones.pack([tmp_path / "absent.wav"])


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"num_mels": 30}, "patch_size: got 8, expected a divisor of num_mels, 30"),
        ({"hop": 0}, "hop: got 0"),
        ({"window": 32}, "num_mels: got 32 for windows of 32"),
        ({"seconds": 0.05}, "audio: got 400 samples"),
        ({"val_size": 0}, "val: got 0 sounds"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, float], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Tones(**settings)
